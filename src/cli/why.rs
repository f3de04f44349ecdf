//! What every verb that changes something may say: why, notes, and on what it is based.
//!
//! It exists once, so that no verb forgets to take a reason. It must never guess a reason.

use clap::Args;

use super::remote::actor;
use crate::wire;

/// Why, and notes.
#[derive(Clone, Debug, Default, Args)]
pub struct Why {
    /// Why, for the journal
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// A note for the journal; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = note)]
    pub annotate: Vec<(String, String)>,
}

/// What the caller saw.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Based {
    /// Refuse unless the route is at this generation
    #[arg(long, value_name = "GENERATION")]
    pub generation: Option<u64>,
}

impl Why {
    /// A body that asks this, by whoever sits at the terminal.
    #[must_use]
    pub fn asked<T>(&self, what: T) -> wire::Asked<T> {
        let said = wire::Said {
            reason: Some(self.reason.clone()).filter(|reason| !reason.is_empty()),
            actor: Some(actor()),
            annotations: self.annotate.iter().cloned().collect(),
        };
        wire::Asked { what, said }
    }
}

impl Based {
    /// As If-Match says it.
    #[must_use]
    pub fn expected(self) -> String {
        self.generation.map_or_else(|| "*".to_owned(), |number| format!("\"{number}\""))
    }
}

fn note(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write key=value, such as build=42")?;
    if key.is_empty() { Err("the key is empty".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}
