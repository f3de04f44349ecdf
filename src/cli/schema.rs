//! `schema`: the JSON Schema of a configuration file, for editors.
//!
//! Made from the very types that read a file, so that it cannot drift. It must never look at a file.

use std::io;

use super::{Exit, Streams};
use crate::spec;

/// Prints the schema.
///
/// # Errors
/// Only when the stream cannot be written to.
pub fn run(streams: &mut Streams<'_>) -> io::Result<Exit> {
    writeln!(streams.out, "{:#}", spec::schema())?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_json_that_names_the_blocks() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(&mut Streams { out: &mut out, err: &mut err, colour: false }).unwrap();
        assert_eq!(exit, Exit::Ok);
        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        for block in ["listeners", "upstreams", "routes", "admin"] {
            assert!(schema["properties"][block].is_object(), "{block}");
        }
        assert_eq!(schema["additionalProperties"], false);
    }
}
