//! Scalars with units and bounds: durations, sizes, percentages, weights, networks, instants.
//!
//! Each knows its own error text. None must ever guess a unit: a bare number is refused, but 0.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Implements `Deserialize` and `JsonSchema` for a scalar read from text by `from_text`.
macro_rules! text_scalar {
    ($name:ident, $expected:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        $name::from_text(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["string", "number"], "pattern": $pattern, "description": $expected })
            }
        }
    };
}

/// Implements `Serialize`, by which the schema tells defaults, for a scalar written as text.
macro_rules! written {
    ($name:ident, $text:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text: fn(&$name) -> String = $text;
                serializer.serialize_str(&text(self))
            }
        }
    };
}

/// A length of time with its unit, such as `5s` or `1m 30s`; `0` needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// A whole number of seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if text.parse::<f64>().is_ok() {
            return Err(format!("a duration carries a unit: write `{text}s` or `{text}ms`"));
        }
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| format!("`{text}` is not a duration such as `500ms`, `5s`, `1m`"))
    }
}

text_scalar!(Span, "a duration with its unit, such as 5s", r"^(0|([0-9]+ ?[a-zµ]+ ?)+)$");

written!(Span, |span| {
    let millis = span.0.as_millis();
    // As people write them: 60s and 24h, but 2m and 30d.
    let units = [(86_400_000, "d", 2), (3_600_000, "h", 1), (60_000, "m", 2), (1_000, "s", 0)];
    let unit = units.iter().find(|(unit, _, least)| millis % unit == 0 && millis / unit >= *least);
    unit.map_or_else(|| format!("{millis}ms"), |(unit, name, _)| format!("{}{name}", millis / unit))
});

/// A number of bytes with its unit, such as `64KiB`; `0` needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Size {
    fn from_text(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "0" {
            return Ok(Self(0));
        }
        if text.parse::<f64>().is_ok() {
            return Err(format!("a size carries a unit: write `{text}KiB` or `{text}B`"));
        }
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| format!("`{text}` is not a size such as `64KiB` or `1MiB`"))
    }
}

text_scalar!(Size, "a size with its unit, such as 64KiB", r"^(0|[0-9.]+ ?[kKMGTi]*B?)$");

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            // The one size without a unit.
            0 => serializer.serialize_u64(0),
            bytes if bytes % (1 << 20) == 0 => serializer.collect_str(&format_args!("{}MiB", bytes >> 20)),
            bytes if bytes % (1 << 10) == 0 => serializer.collect_str(&format_args!("{}KiB", bytes >> 10)),
            bytes => serializer.collect_str(&format_args!("{bytes}B")),
        }
    }
}

/// A share in parts per million, written `5%` or, meaning the same, `5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent {
    /// 0 to 1,000,000.
    pub parts_per_million: u32,
}

impl Percent {
    /// All of it.
    pub const ALL: Self = Self { parts_per_million: 1_000_000 };

    /// A whole number of hundredths.
    #[must_use]
    pub const fn whole(percent: u32) -> Self {
        Self { parts_per_million: percent * 10_000 }
    }

    /// The share, 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.parts_per_million) / 1_000_000.0
    }

    /// Reads a percentage as written.
    ///
    /// # Errors
    /// One sentence when it is not a number from 0 to 100.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let number = text.trim().trim_end_matches('%').trim_end();
        let value: f64 = number.parse().map_err(|_| format!("`{text}` is not a percentage such as `5%`"))?;
        if !(0.0..=100.0).contains(&value) {
            return Err(format!("`{text}` is not between 0% and 100%"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100 was checked")]
        let parts_per_million = (value * 10_000.0).round() as u32;
        Ok(Self { parts_per_million })
    }
}

text_scalar!(Percent, "a percentage, such as 5%", r"^[0-9.]+ ?%?$");

written!(Percent, |percent| format!("{}%", f64::from(percent.parts_per_million) / 10_000.0));

/// A finite number, such as `0.001` or `1.5`. Equal when its bits are.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

impl Number {
    fn from_text(text: &str) -> Result<Self, String> {
        let value = text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
        value.map(Self).ok_or_else(|| format!("`{text}` is not a number such as `0.001`"))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

impl std::hash::Hash for Number {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

text_scalar!(Number, "a number, such as 0.001", r"^-?[0-9.]+([eE][-+]?[0-9]+)?$");

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

/// An arm's relative share: a whole number from 0 to 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub u32);

impl Weight {
    /// Largest weight of one arm (Gateway API's bound).
    pub const MAX: u32 = 1_000_000;

    /// Reads a weight as written.
    ///
    /// # Errors
    /// One sentence when it is not a whole number in range.
    pub fn from_text(text: &str) -> Result<Self, String> {
        match text.trim().parse::<u32>() {
            Ok(weight) if weight <= Self::MAX => Ok(Self(weight)),
            _ if text.contains(['%', '.']) => Err(format!(
                "`{text}` is not a weight; weights are relative whole numbers, such as 995 and 5"
            )),
            _ => Err(format!("`{text}` is not a weight, a whole number from 0 to {}", Self::MAX)),
        }
    }
}

text_scalar!(Weight, "a weight: a whole number from 0 to 1000000", r"^[0-9]+$");

/// An address or a network, such as `10.0.0.0/8` or `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(pub ipnet::IpNet);

impl Network {
    fn from_text(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        text.parse::<ipnet::IpNet>()
            .map(|net| Self(net.trunc()))
            .map_err(|_| format!("`{text}` is not an address or a network such as `10.0.0.0/8`"))
    }
}

text_scalar!(Network, "an address or a network, such as 10.0.0.0/8", r"^[0-9a-fA-F.:]+(/[0-9]+)?$");

/// A moment with its offset, such as `2026-12-24T00:00:00Z`; seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

impl Moment {
    fn from_text(text: &str) -> Result<Self, String> {
        text.trim()
            .parse::<jiff::Timestamp>()
            .map(|stamp| Self(stamp.as_second()))
            .map_err(|_| format!("`{text}` is not a moment such as `2026-12-24T00:00:00Z`"))
    }
}

text_scalar!(Moment, "a moment such as 2026-12-24T00:00:00Z", r"^[0-9]{4}-");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_required_but_for_zero() {
        assert_eq!(Span::from_text("1m 30s").unwrap().0, Duration::from_secs(90));
        assert_eq!(Span::from_text("0").unwrap().0, Duration::ZERO);
        assert!(Span::from_text("5").unwrap_err().contains("5s"));
        assert_eq!(Size::from_text("64KiB").unwrap().0, 65_536);
        assert!(Size::from_text("64").is_err());
    }

    #[test]
    fn what_is_told_as_a_default_reads_back_as_it() {
        for text in ["0s", "500ms", "90s", "60s", "2m", "10m", "1h", "24h", "2d", "30d"] {
            let span = Span::from_text(text).unwrap();
            assert_eq!(serde_json::to_value(span).unwrap(), text);
        }
        for text in ["1B", "64KiB", "1536KiB", "64MiB"] {
            assert_eq!(serde_json::to_value(Size::from_text(text).unwrap()).unwrap(), text);
        }
        assert_eq!(serde_json::to_value(Size(0)).unwrap(), 0);
        for text in ["0%", "0.01%", "50%", "99.9%", "100%"] {
            assert_eq!(serde_json::to_value(Percent::from_text(text).unwrap()).unwrap(), text);
        }
        assert_eq!(serde_json::to_value(Number::from_text("0.001").unwrap()).unwrap(), 0.001);
    }

    #[test]
    fn a_bare_percentage_means_the_same() {
        assert_eq!(Percent::from_text("5").unwrap(), Percent::from_text("5%").unwrap());
        assert_eq!(Percent::from_text("0.01%").unwrap().parts_per_million, 100);
        assert!(Percent::from_text("101%").is_err());
        assert!(Percent::from_text("-1").is_err());
    }

    #[test]
    fn weights_are_whole_and_bounded() {
        assert_eq!(Weight::from_text("1000000").unwrap().0, 1_000_000);
        for bad in ["-1", "1.5", "1000001", "many", ""] {
            assert!(Weight::from_text(bad).is_err(), "{bad}");
        }
    }
}
