//! The API described by itself: OpenAPI 3.1, made from the very types that are sent.
//!
//! Generated once and served as it is. A test holds every route of the router against it and every
//! example against the type that reads it. It must never describe what is not there.

use std::sync::OnceLock;

use axum::Json;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::wire;

type Shape = fn(&mut SchemaGenerator) -> Schema;

/// What one method of one path does.
struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    /// Query parameters: name, whether it may be repeated, what it says.
    query: &'static [(&'static str, bool, &'static str)],
    /// Type and an example of the body.
    body: Option<(Shape, &'static str)>,
    answer: Answer,
}

/// What comes back when all is well.
#[derive(Clone, Copy)]
enum Answer {
    Json(Shape),
    Text(&'static str),
}

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn any(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

const fn get(path: &'static str, id: &'static str, summary: &'static str, answer: Answer) -> Operation {
    Operation { method: "get", path, id, summary, query: &[], body: None, answer }
}

const fn post(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    body: (Shape, &'static str),
    answer: Answer,
) -> Operation {
    Operation { method: "post", path, id, summary, query: &[], body: Some(body), answer }
}

const EXPLAIN: &[(&str, bool, &str)] = &[
    ("url", false, "address of the request, `http://host/path`"),
    ("method", false, "its method; GET when not said"),
    ("header", true, "a header of it as `name: value`"),
    ("clientIP", false, "address of its client"),
    ("key", false, "its sticky key, in place of what would carry it"),
];

/// Probes, numbers and the document itself.
fn open() -> Vec<Operation> {
    use Answer::{Json, Text};
    vec![
        get("/livez", "livez", "The process is there", Json(shape::<wire::Ready>)),
        get(
            "/readyz",
            "readyz",
            "It takes requests; 503 with the reason when not",
            Json(shape::<wire::Ready>),
        ),
        get("/startupz", "startupz", "It has begun; 503 until then", Json(shape::<wire::Ready>)),
        get("/metrics", "metrics", "Everything Prometheus scrapes", Text("text/plain")),
        get("/openapi.json", "openapi", "This document", Json(any)),
    ]
}

/// What can be read.
fn reads() -> Vec<Operation> {
    use Answer::Json;
    vec![
        get("/api/v1/status", "status", "The process as a whole", Json(shape::<wire::Status>)),
        get("/api/v1/routes", "routes", "Every route", Json(shape::<wire::Routes>)),
        get("/api/v1/routes/{route}", "route", "One route", Json(shape::<wire::Route>)),
        get(
            "/api/v1/routes/{route}/history",
            "history",
            "What was decided about its rollouts, and why",
            Json(shape::<wire::History>),
        ),
        get(
            "/api/v1/routes/{route}/differences",
            "differences",
            "What copies were answered differently",
            Json(shape::<wire::Differences>),
        ),
        get(
            "/api/v1/routes/{route}/rollout/plan",
            "plan",
            "How long its steps take, and what each can see",
            Json(shape::<wire::RolloutPlan>),
        ),
        Operation {
            query: &[("after", false, "`next` of the last answer")],
            ..get(
                "/api/v1/routes/{route}/ticks",
                "ticks",
                "What the analyzer saw lately, a line a second",
                Json(shape::<wire::Ticks>),
            )
        },
        get(
            "/api/v1/routes/{route}/past",
            "past",
            "What its arms saw in the last fifteen minutes, in points of five seconds",
            Json(shape::<wire::Past>),
        ),
        Operation {
            query: &[("route", true, "only these routes")],
            ..get(
                "/api/v1/events",
                "events",
                "Server-sent events: `tick` once a second, `transition`, `config`, `difference`",
                Answer::Text("text/event-stream"),
            )
        },
        get("/api/v1/config", "config", "The configuration in force, without secrets", Json(any)),
        get(
            "/api/v1/config/history",
            "configHistory",
            "Configurations that were in force",
            Json(shape::<wire::ConfigHistory>),
        ),
        get("/api/v1/access", "access", "What the asker may do", Json(shape::<wire::Access>)),
        get("/api/v1/limits", "limits", "Every bound with its value", Json(any)),
        Operation {
            query: EXPLAIN,
            ..get(
                "/api/v1/explain",
                "explain",
                "What would happen to a request, and why",
                Json(shape::<wire::Explained>),
            )
        },
    ]
}

/// What can be done.
fn verbs() -> Vec<Operation> {
    use Answer::Json;
    vec![
        post(
            "/api/v1/routes/{route}/weights",
            "weights",
            "Set the whole split, or return to the file's",
            (
                shape::<wire::WeightsRequest>,
                r#"{"weights":{"stable":95,"canary":5},"reason":"try v2 on a few"}"#,
            ),
            Json(shape::<wire::WeightsSet>),
        ),
        post(
            "/api/v1/routes/{route}/drain",
            "drain",
            "Give an arm no new users while those pinned to it stay",
            (shape::<wire::DrainRequest>, r#"{"arm":"canary","reason":"v2 ends today"}"#),
            Json(shape::<wire::WeightsSet>),
        ),
        post(
            "/api/v1/routes/{route}/flip",
            "flip",
            "Everything to the other slot, or back",
            (shape::<wire::FlipRequest>, r#"{"back":true,"reason":"checkout is slow on green"}"#),
            Json(shape::<wire::Flipped>),
        ),
        post(
            "/api/v1/routes/{route}/rollout/{verb}",
            "rollout",
            "Move a rollout: start, pause, resume, advance, promote, finish, abort (rollback), retry",
            (shape::<wire::RolloutRequest>, r#"{"version":"v2","reason":"support reports errors"}"#),
            Json(shape::<wire::RolloutMoved>),
        ),
        post(
            "/api/v1/upstreams/{upstream}/breaker",
            "breaker",
            "Open a breaker by hand, or close it",
            (shape::<wire::BreakerRequest>, r#"{"state":"open","reason":"the vendor is down"}"#),
            Json(shape::<wire::BreakerTurned>),
        ),
        Operation {
            query: &[("dryRun", false, "`true`: only say what would happen")],
            ..post(
                "/api/v1/reload",
                "reload",
                "Load the configuration again",
                (shape::<wire::ReloadRequest>, r#"{"reason":"new certificates"}"#),
                Json(shape::<wire::Reloaded>),
            )
        },
        post(
            "/api/v1/config/rollback",
            "configRollback",
            "Serve an earlier configuration until the file changes",
            (shape::<wire::RollbackRequest>, r#"{"generation":7,"reason":"the last edit broke checkout"}"#),
            Json(shape::<wire::Reloaded>),
        ),
    ]
}

/// Serves the document.
pub(super) async fn openapi() -> Json<&'static Value> {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    Json(DOCUMENT.get_or_init(document))
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    let refused = generator.subschema_for::<wire::Error>();
    for operation in open().into_iter().chain(reads()).chain(verbs()) {
        let told = described(&operation, &mut generator, &refused);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = told;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "switchback",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The operator's API. Verbs need the operator's token, a JSON content type and, \
                            unless they move toward stable, If-Match with the generation that was seen.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn described(operation: &Operation, generator: &mut SchemaGenerator, refused: &Schema) -> Value {
    let answer = match operation.answer {
        Answer::Json(shape) => json!({ "application/json": { "schema": shape(generator) } }),
        Answer::Text(kind) => json!({ (kind): { "schema": { "type": "string" } } }),
    };
    let mut told = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters(operation),
        "responses": {
            "200": { "description": "as asked", "content": answer },
            "default": {
                "description": "refused: what is wrong and what to do",
                "content": { "application/json": { "schema": refused } },
            },
        },
    });
    if let Some((shape, example)) = operation.body {
        let example: Value = serde_json::from_str(example).unwrap_or_default();
        let content = json!({ "application/json": { "schema": shape(generator), "example": example } });
        told["requestBody"] = json!({ "content": content });
    }
    told
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let named = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = named
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    for (name, repeated, says) in operation.query {
        let text = json!({ "type": "string" });
        let schema = if *repeated { json!({ "type": "array", "items": text }) } else { text };
        all.push(json!({ "name": name, "in": "query", "description": says, "schema": schema }));
    }
    if operation.method == "post" {
        let says = "the generation that was seen, or `*`; moves toward stable need none";
        let schema = json!({ "type": "string" });
        all.push(json!({ "name": "If-Match", "in": "header", "description": says, "schema": schema }));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_of_the_router_is_described_and_nothing_else() {
        let router = include_str!("mod.rs");
        let mut served = BTreeSet::new();
        for line in router.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
            let (path, rest) = line.split_once("\", ").expect("a path and a method");
            let method = rest.split('(').next().expect("a method").to_owned();
            let inside = ["/livez", "/readyz", "/startupz", "/metrics", "/openapi.json", "/"];
            let own = inside.contains(&path) || path.starts_with("/assets");
            served.insert((method, if own { path.to_owned() } else { format!("/api/v1{path}") }));
        }
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let told = paths.iter().flat_map(|(path, methods)| {
            methods.as_object().expect("methods").keys().map(move |method| (method.clone(), path.clone()))
        });
        assert_eq!(told.collect::<BTreeSet<_>>(), served);
    }

    #[test]
    fn every_example_is_what_its_verb_reads() {
        fn reads<T: serde::de::DeserializeOwned>(text: &str) -> Result<(), String> {
            serde_json::from_str::<T>(text).map(drop).map_err(|error| error.to_string())
        }
        for operation in verbs() {
            let (_, example) = operation.body.expect("a body");
            let read = match operation.id {
                "weights" => reads::<wire::WeightsRequest>(example),
                "drain" => reads::<wire::DrainRequest>(example),
                "flip" => reads::<wire::FlipRequest>(example),
                "rollout" => reads::<wire::RolloutRequest>(example),
                "reload" => reads::<wire::ReloadRequest>(example),
                "breaker" => reads::<wire::BreakerRequest>(example),
                "configRollback" => reads::<wire::RollbackRequest>(example),
                other => Err(format!("{other} is not tried")),
            };
            assert_eq!(read, Ok(()), "{}", operation.path);
        }
    }
}
