//! The OpenAPI 3.1 document, written from the routes and the types they take
//! and give. A test holds it against the copy in `docs/openapi.json`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::problem;
use crate::route::{Content, Kind, Parameter, ROUTES, Route, Who};

const ABOUT: &str = "Keys, accounts and calls belong to one region each; asked elsewhere, the \
    answer is 421 with `home_region` and `base_url`. Every error is a problem document (RFC 9457).";

/// What every error looks like.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is of use")]
struct ProblemDocument {
    /// `urn:landline:problem:` and a name that stays.
    #[schemars(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    /// Names the culprit and what would be right.
    detail: String,
    instance: String,
    /// The field or parameter to blame.
    field: Option<String>,
    /// With 421: where to ask.
    home_region: Option<String>,
    base_url: Option<String>,
}

pub fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<ProblemDocument>();
    let mut paths = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        let method = route.method.as_str().to_ascii_lowercase();
        item[method] = operation(route, &mut generator);
    }
    let schemas: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Landline",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": { "problem": {
                "description": "What went wrong.",
                "content": { problem::CONTENT_TYPE: { "schema": problem } },
            } },
            "securitySchemes": {
                "basic": { "type": "http", "scheme": "basic", "description": "The key's sid and its secret." },
                "bearer": { "type": "http", "scheme": "bearer", "description": "`SID.SECRET`" },
                "digest": { "type": "http", "scheme": "digest", "description": "RFC 7616 with SHA-256: the name and the password of a user's phone; the realm is the domain." },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = in_path(route.path);
    parameters.extend(route.query.iter().map(in_query));
    if route.method == axum::http::Method::POST && route.who != Who::User {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same key within 24 hours has the same answer; another request under it is refused.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
        }));
    }
    let (status, content) = &route.success;
    let mut success = json!({ "description": "Done." });
    match content {
        Content::Nothing => {}
        Content::Json(describe) => {
            success["content"] = json!({ "application/json": { "schema": describe(generator) } });
        }
        Content::Media(media_type) => success["content"] = json!({ *media_type: {} }),
    }
    let mut responses = Map::new();
    if route.operation == "call_hang_up" {
        responses.insert("202".to_owned(), success.clone());
    }
    responses.insert(status.to_string(), success);
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/problem" }));
    let mut operation = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if route.method == axum::http::Method::PUT {
        let file = json!({ "schema": { "type": "string", "format": "binary" } });
        operation["requestBody"] = json!({ "required": true, "content": {
            "application/octet-stream": file,
            "audio/wav": file,
        } });
    }
    if let Some(describe) = route.body {
        operation["requestBody"] = body(&describe(generator));
    }
    match route.who {
        Who::Anyone => {}
        Who::Keys(roles) => {
            let roles: Vec<&str> = roles.iter().map(|role| role.name()).collect();
            operation["security"] = json!([{ "basic": [] }, { "bearer": [] }]);
            operation["x-roles"] = json!(roles);
        }
        Who::User => operation["security"] = json!([{ "digest": [] }]),
    }
    operation
}

fn body(schema: &Schema) -> Value {
    json!({ "required": true, "content": {
        "application/json": { "schema": schema },
        "application/x-www-form-urlencoded": { "schema": schema },
    } })
}

fn in_path(path: &str) -> Vec<Value> {
    path.split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| {
            let schema = match name {
                "account" => json!({ "type": "string", "pattern": "^AC[0-9a-f]{32}$" }),
                _ => json!({ "type": "string", "minLength": 1 }),
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect()
}

fn in_query(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Time => {
            json!({ "type": "string", "anyOf": [{ "format": "date" }, { "format": "date-time" }] })
        }
        Kind::Count => {
            json!({ "type": "integer", "minimum": 1, "maximum": crate::input::PAGE_SIZES.0 })
        }
        Kind::OneOf(names) => json!({ "type": "string", "enum": names }),
    };
    json!({
        "name": parameter.name, "in": "query", "required": false,
        "description": parameter.summary, "schema": schema,
    })
}
