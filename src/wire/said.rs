//! Who asks, why, and notes: what every verb may say beside what it is about.
//!
//! It exists once, so that a verb cannot forget to take a reason. It must never let an unknown key
//! pass: a misspelt `reason` would be lost.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Who, why, and notes for the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Free notes for the journal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The body of a verb: what is asked, and what is said about it, side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "{T}Request", extend("additionalProperties" = false))]
pub struct Asked<T> {
    /// What is asked.
    #[serde(flatten)]
    pub what: T,
    /// By whom, and why.
    #[serde(flatten)]
    pub said: Said,
}

/// Keys of [`Said`].
const SAID: [&str; 3] = ["reason", "actor", "annotations"];

impl<'de, T: DeserializeOwned> Deserialize<'de> for Asked<T> {
    /// By hand: a flattened field would let unknown keys pass.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut what = Map::deserialize(deserializer)?;
        let said: Map<String, Value> =
            SAID.into_iter().filter_map(|key| Some((key.to_owned(), what.remove(key)?))).collect();
        Ok(Self {
            what: serde_json::from_value(Value::Object(what)).map_err(D::Error::custom)?,
            said: serde_json::from_value(Value::Object(said)).map_err(D::Error::custom)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::{DrainRequest, ReloadRequest, WeightsRequest};

    #[test]
    fn a_body_is_flat_and_an_unknown_key_is_refused() {
        let drain: DrainRequest =
            serde_json::from_str(r#"{"arm":"canary","reason":"over","annotations":{"a":"b"}}"#).unwrap();
        assert_eq!((&*drain.what.arm, drain.said.reason.as_deref()), ("canary", Some("over")));
        assert_eq!(drain.said.annotations["a"], "b");
        let text = serde_json::to_string(&drain).unwrap();
        assert_eq!(serde_json::from_str::<DrainRequest>(&text).unwrap(), drain, "{text}");
        let rows = [
            (r#"{"arm":"canary","reson":"over"}"#, "unknown field `reson`"),
            (r#"{"reason":"over"}"#, "missing field `arm`"),
            (r#"{"arm":"canary","reason":7}"#, "invalid type"),
            ("[]", "invalid type"),
        ];
        for (body, why) in rows {
            let error = serde_json::from_str::<DrainRequest>(body).unwrap_err().to_string();
            assert!(error.contains(why), "{body}: {error}");
        }
        assert!(serde_json::from_str::<ReloadRequest>(r#"{"dryRun":true}"#).is_err());
        assert!(serde_json::from_str::<WeightsRequest>(r#"{"weights":{"a":1},"reset":true}"#).is_ok());
    }

    #[test]
    fn what_a_verb_takes_is_published_with_its_reason() {
        let schema = schemars::schema_for!(DrainRequest).to_value();
        for key in ["arm", "reason", "actor", "annotations"] {
            assert!(schema["properties"][key].is_object(), "{key} in {schema}");
        }
        assert_eq!(schema["additionalProperties"], false, "{schema}");
        assert_eq!(schema["title"], "DrainRequest", "{schema}");
    }
}
