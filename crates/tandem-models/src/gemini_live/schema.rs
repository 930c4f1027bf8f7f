//! JSON Schema in the OpenAPI subset that all Live models take.

use serde_json::{Map, Value, json};
use tandem_call::ToolDeclaration;

/// Schemas nested deeper than this lose their depths.
const MAX_DEPTH: usize = 16;

/// The function declaration for `tool`; `behavior` only where the model insists on one.
pub(super) fn declaration(tool: &ToolDeclaration, behavior: Option<&str>) -> Value {
    let mut out = json!({ "name": tool.name, "description": tool.description });
    if let Some(behavior) = behavior {
        out["behavior"] = json!(behavior);
    }
    let parameters = convert(&tool.parameters, MAX_DEPTH);
    // An object without properties is refused; a function without parameters is not.
    let has_properties =
        parameters.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    if has_properties {
        out["parameters"] = parameters;
    }
    out
}

fn convert(schema: &Value, depth: usize) -> Value {
    let mut out = Map::new();
    let Some(schema) = schema.as_object() else {
        return json!({ "type": "STRING" });
    };
    if depth == 0 {
        return json!({ "type": "STRING" });
    }
    let (kind, nullable) = kind_of(schema);
    if let Some(choice) = ["anyOf", "oneOf", "allOf"]
        .iter()
        .filter_map(|key| schema.get(*key)?.as_array())
        .flatten()
        .find(|choice| choice.get("type").and_then(Value::as_str) != Some("null"))
        && kind.is_none()
    {
        // No choices in the subset: the first one stands for all.
        let mut chosen = convert(choice, depth - 1);
        if let Some(text) = schema.get("description") {
            chosen["description"] = text.clone();
        }
        return chosen;
    }
    let kind = kind.unwrap_or_else(|| {
        if schema.contains_key("properties") { "OBJECT".into() } else { "STRING".into() }
    });
    if nullable {
        out.insert("nullable".into(), json!(true));
    }
    for key in ["description", "minimum", "maximum"] {
        if let Some(value) = schema.get(key) {
            out.insert(key.into(), value.clone());
        }
    }
    // Other formats than these are refused.
    if let Some(format) = schema.get("format").and_then(Value::as_str)
        && ["int32", "int64", "float", "double", "enum", "date-time"].contains(&format)
    {
        out.insert("format".into(), json!(format));
    }
    let choices = match schema.get("const") {
        Some(only) => Some(vec![only.clone()]),
        None => schema.get("enum").and_then(Value::as_array).cloned(),
    };
    if let Some(choices) = choices
        && kind == "STRING"
    {
        let choices: Vec<Value> = choices.into_iter().filter(Value::is_string).collect();
        if !choices.is_empty() {
            out.insert("enum".into(), Value::Array(choices));
        }
    }
    if kind == "OBJECT" {
        let properties: Map<String, Value> = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, property)| (name.clone(), convert(property, depth - 1)))
            .collect();
        let required: Vec<Value> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|name| name.as_str().is_some_and(|name| properties.contains_key(name)))
            .cloned()
            .collect();
        if !required.is_empty() {
            out.insert("required".into(), Value::Array(required));
        }
        out.insert("properties".into(), Value::Object(properties));
    }
    if kind == "ARRAY" {
        let items = schema.get("items").unwrap_or(&Value::Null);
        out.insert("items".into(), convert(items, depth - 1));
    }
    out.insert("type".into(), json!(kind));
    Value::Object(out)
}

/// The first type that is not null, in capitals, and whether null is one of the types.
fn kind_of(schema: &Map<String, Value>) -> (Option<String>, bool) {
    let nullable = schema.get("nullable") == Some(&json!(true));
    match schema.get("type") {
        Some(Value::String(kind)) => (Some(kind.to_ascii_uppercase()), nullable),
        Some(Value::Array(kinds)) => {
            let mut kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
            let before = kinds.len();
            kinds.retain(|kind| *kind != "null");
            (kinds.first().map(|kind| kind.to_ascii_uppercase()), nullable || kinds.len() < before)
        }
        _ => (None, nullable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_cut_down_to_the_subset() {
        for (schema, converted) in [
            (json!({ "type": "string", "minLength": 3 }), json!({ "type": "STRING" })),
            (
                json!({ "type": ["integer", "null"], "minimum": 1, "format": "int32", "default": 4 }),
                json!({ "type": "INTEGER", "nullable": true, "minimum": 1, "format": "int32" }),
            ),
            (json!({ "type": "string", "format": "uuid" }), json!({ "type": "STRING" })),
            (json!({ "const": "yes" }), json!({ "type": "STRING", "enum": ["yes"] })),
            (
                json!({ "type": "object", "additionalProperties": false,
                        "properties": { "a": { "type": "boolean" } }, "required": ["a", "gone"] }),
                json!({ "type": "OBJECT", "properties": { "a": { "type": "BOOLEAN" } }, "required": ["a"] }),
            ),
            (
                json!({ "type": "array", "items": { "enum": ["x", "y"] } }),
                json!({ "type": "ARRAY", "items": { "type": "STRING", "enum": ["x", "y"] } }),
            ),
            (
                json!({ "anyOf": [{ "type": "null" }, { "type": "number" }], "description": "d" }),
                json!({ "type": "NUMBER", "description": "d" }),
            ),
            (json!(true), json!({ "type": "STRING" })),
        ] {
            assert_eq!(convert(&schema, MAX_DEPTH), converted, "{schema}");
        }
    }

    #[test]
    fn a_tool_without_parameters_has_none() {
        let tool = ToolDeclaration {
            name: "hours".into(),
            description: "Opening hours".into(),
            parameters: json!({ "type": "object", "properties": {} }),
        };
        assert_eq!(
            declaration(&tool, Some("NON_BLOCKING")),
            json!({ "name": "hours", "description": "Opening hours", "behavior": "NON_BLOCKING" })
        );
    }

    #[test]
    fn bottomless_schemas_end() {
        let mut schema = json!({ "type": "string" });
        for _ in 0..100 {
            schema = json!({ "type": "array", "items": schema });
        }
        assert!(convert(&schema, MAX_DEPTH).to_string().len() < 1_000);
    }
}
