//! JSON Schemas of arguments: what a model is told, what may not be kept, and the check of a call.

use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value, json};

use crate::arguments::{self, InvalidArguments};

/// The longest schema, in bytes of compact JSON (control API 10.3).
pub const MAX_SCHEMA: usize = 32 * 1024;

/// How deep arguments may be nested (control API 10.3): the arguments themselves are the first level.
pub const MAX_DEPTH: usize = 6;

/// How deep a schema's own JSON may be nested, whatever it describes.
const MAX_JSON_DEPTH: usize = 64;

/// References that are followed one into the next.
const MAX_REFERENCES: usize = 8;

/// Schemas that are looked at for marks.
const MAX_VISITS: usize = 4_096;

/// How deep values may be nested that are compared with a schema: so far its work is known.
pub(crate) const MAX_NESTING: usize = 10;

/// Schemas that one value may be compared with, those inside one another and those that `$ref` repeats all counted.
const MAX_EFFORT: usize = 8_192;

/// Schemas for one and the same value, each inside the one before.
const MAX_CHAIN: usize = 64;

/// Marks an argument whose value is not kept.
const REDACT: &str = "x-redact";

/// What is wrong with a schema, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema{}: {why}", at(place))]
pub struct SchemaError {
    /// A JSON pointer into the schema (RFC 6901); empty for the whole.
    pub place: String,
    /// In words.
    pub why: String,
}

fn at(place: &str) -> String {
    if place.is_empty() { String::new() } else { format!(" at {place}") }
}

/// Checks a schema of arguments as a tool's declaration has it.
///
/// # Errors
///
/// When it is no JSON Schema (2020-12 unless `$schema` says otherwise) of an object, longer than [`MAX_SCHEMA`], deeper
/// than [`MAX_DEPTH`], or refers to another document.
pub fn check_schema(schema: &Value) -> Result<(), SchemaError> {
    ArgumentSchema::compile(schema, MAX_DEPTH).map(drop)
}

/// A compiled schema of a tool's arguments.
#[derive(Debug)]
pub struct ArgumentSchema {
    declared: Value,
    redacted: Arc<[String]>,
    validator: Validator,
}

impl ArgumentSchema {
    /// Compiles `schema`, whose arguments may be nested `depth` deep; `null` stands for a tool without arguments.
    ///
    /// # Errors
    ///
    /// As [`check_schema`].
    pub fn compile(schema: &Value, depth: usize) -> Result<Self, SchemaError> {
        if schema.is_null() {
            return Self::compile(&no_arguments(), depth);
        }
        let whole = |why: String| SchemaError { place: String::new(), why };
        check_nesting(schema, &mut String::new(), 0)?;
        let bytes = schema.to_string().len();
        if bytes > MAX_SCHEMA {
            return Err(whole(format!("it has {bytes} bytes, at most {MAX_SCHEMA} are allowed")));
        }
        if schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err(whole("it must be an object with \"type\": \"object\"".into()));
        }
        check_subschema(schema, &mut String::new(), 1, depth)?;
        check_effort(schema)?;
        let redacted = Redacted::of(schema);
        let mut declared = schema.clone();
        strip_redact(&mut declared);
        let validator = compile(&declared)?;
        Ok(Self { declared, redacted, validator })
    }

    /// The schema as a model may see it: without our own annotations.
    pub fn declared(&self) -> &Value {
        &self.declared
    }

    /// Where the values are that may not be kept, as JSON pointers into the arguments (RFC 6901). A value inside a list
    /// is meant by the list's pointer.
    pub fn redacted(&self) -> &Arc<[String]> {
        &self.redacted
    }

    /// The arguments of a call that may be carried out; `null` stands for none.
    ///
    /// Arguments that a closed schema does not know are gone, and so is `null` in the place of an optional one.
    ///
    /// # Errors
    ///
    /// What the model has to do better.
    pub fn check(&self, arguments: Value) -> Result<Map<String, Value>, InvalidArguments> {
        arguments::check(&self.declared, &self.validator, arguments)
    }
}

/// A schema that a receiver's answer must match (control API 10.3).
#[derive(Debug)]
pub struct ResultSchema(Validator);

impl ResultSchema {
    /// Compiles `schema`.
    ///
    /// # Errors
    ///
    /// As [`check_schema`], but any type may be described.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        check_nesting(schema, &mut String::new(), 0)?;
        let bytes = schema.to_string().len();
        if bytes > MAX_SCHEMA {
            let why = format!("it has {bytes} bytes, at most {MAX_SCHEMA} are allowed");
            return Err(SchemaError { place: String::new(), why });
        }
        check_subschema(schema, &mut String::new(), 1, MAX_JSON_DEPTH)?;
        check_effort(schema)?;
        Ok(Self(compile(schema)?))
    }

    /// What does not match, in words that repeat no value.
    pub(crate) fn mismatch(&self, answer: &Value) -> Option<String> {
        if is_nested_deeper(answer, MAX_NESTING) {
            return Some("the answer is nested too deep for the result schema".into());
        }
        let error = self.0.iter_errors(answer).next()?;
        let place = error.instance_path().to_string();
        Some(format!(
            "the answer does not match the result schema{}: {}",
            at(&place),
            error.masked()
        ))
    }
}

/// The schema of a tool without arguments.
pub(crate) fn no_arguments() -> Value {
    json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

/// Patterns run in linear time, whatever a caller says; other documents are not fetched.
fn compile(schema: &Value) -> Result<Validator, SchemaError> {
    jsonschema::options()
        .offline()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| SchemaError {
            place: error.instance_path().to_string(),
            why: error.to_string().chars().take(300).collect(),
        })
}

fn check_nesting(value: &Value, place: &mut String, depth: usize) -> Result<(), SchemaError> {
    if depth > MAX_JSON_DEPTH {
        return Err(SchemaError { place: place.clone(), why: "it is nested too deep".into() });
    }
    let length = place.len();
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                push(place, name);
                check_nesting(member, place, depth + 1)?;
                place.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                push(place, &index.to_string());
                check_nesting(item, place, depth + 1)?;
                place.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Adds a step to a JSON pointer (RFC 6901 §3).
fn push(pointer: &mut String, step: &str) {
    pointer.push('/');
    pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
}

/// How a keyword holds schemas of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// One, for the values inside the one described.
    Inner,
    /// A map of them, for the values inside.
    InnerMap,
    /// One, for the same value.
    Same,
    /// A list of them, for the same value.
    SameList,
    /// A list of them, for the values inside.
    InnerList,
    /// A map of them that others refer to.
    Definitions,
    /// None.
    Nothing,
}

impl Holds {
    fn of(keyword: &str) -> Self {
        match keyword {
            "items"
            | "additionalItems"
            | "additionalProperties"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "contains" => Self::Inner,
            "properties" | "patternProperties" => Self::InnerMap,
            "not" | "if" | "then" | "else" | "propertyNames" => Self::Same,
            "allOf" | "anyOf" | "oneOf" => Self::SameList,
            "prefixItems" => Self::InnerList,
            "$defs" | "definitions" | "dependentSchemas" => Self::Definitions,
            _ => Self::Nothing,
        }
    }

    const fn deeper(self) -> usize {
        matches!(self, Self::Inner | Self::InnerMap | Self::InnerList) as usize
    }
}

/// The schemas right inside `schema`: keyword, step below it if it holds several, and the schema.
fn subschemas(schema: &Value) -> impl Iterator<Item = (&str, Option<String>, &Value)> {
    let members = schema.as_object().into_iter().flatten();
    members.flat_map(|(keyword, value)| {
        let several: Vec<(Option<String>, &Value)> = match (Holds::of(keyword), value) {
            (Holds::Nothing, _) => Vec::new(),
            (Holds::InnerMap | Holds::Definitions, Value::Object(map)) => {
                map.iter().map(|(name, schema)| (Some(name.clone()), schema)).collect()
            }
            (_, Value::Array(list)) => {
                let numbered = list.iter().enumerate();
                numbered.map(|(n, schema)| (Some(n.to_string()), schema)).collect()
            }
            (_, value) => vec![(None, value)],
        };
        several.into_iter().map(move |(step, schema)| (keyword.as_str(), step, schema))
    })
}

/// Refuses what is nested deeper than `limit`, and references to other documents.
fn check_subschema(
    schema: &Value,
    place: &mut String,
    depth: usize,
    limit: usize,
) -> Result<(), SchemaError> {
    if depth > limit {
        let why = format!("it is nested deeper than {limit} levels");
        return Err(SchemaError { place: place.clone(), why });
    }
    for keyword in ["$ref", "$dynamicRef"] {
        let elsewhere = |target: &&str| !target.starts_with('#');
        if let Some(target) = schema.get(keyword).and_then(Value::as_str).filter(elsewhere) {
            let why =
                format!("it refers to another document, {target:?}; only \"#/…\" is followed");
            return Err(SchemaError { place: place.clone(), why });
        }
    }
    let length = place.len();
    for (keyword, step, inner) in subschemas(schema) {
        push(place, keyword);
        if let Some(step) = step {
            push(place, &step);
        }
        check_subschema(inner, place, depth + Holds::of(keyword).deeper(), limit)?;
        place.truncate(length);
    }
    Ok(())
}

/// Refuses a schema whose comparison may take for ever: a few references that each lead to two others are millions.
fn check_effort(schema: &Value) -> Result<(), SchemaError> {
    let mut effort = Effort { root: schema, left: MAX_EFFORT };
    effort.visit(schema, 0, 0).map_err(|why| SchemaError { place: String::new(), why })
}

/// Walks a schema as a comparison would, references followed.
struct Effort<'a> {
    root: &'a Value,
    left: usize,
}

impl Effort<'_> {
    /// `level` says how deep the value is, `chain` how many schemas stand around this one for the same value.
    fn visit(&mut self, schema: &Value, level: usize, chain: usize) -> Result<(), String> {
        if level > MAX_NESTING {
            return Ok(()); // No value gets there.
        }
        self.left = match self.left.checked_sub(1) {
            Some(left) if chain <= MAX_CHAIN => left,
            _ => return Err("its references lead to more work than one call is worth".into()),
        };
        for keyword in ["$dynamicRef", "$recursiveRef"] {
            if schema.get(keyword).is_some() {
                return Err(format!("{keyword} is not followed; use $ref"));
            }
        }
        if (level, chain) != (0, 0) && schema != self.root && schema.get("$id").is_some() {
            return Err("only the whole schema may have an $id".into());
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix('#').and_then(|target| self.root.pointer(target));
            let target = target.ok_or_else(|| format!("{reference:?} leads nowhere"))?;
            self.visit(target, level, chain + 1)?;
        }
        for (keyword, _, inner) in subschemas(schema) {
            match Holds::of(keyword).deeper() {
                _ if matches!(keyword, "$defs" | "definitions") => {}
                0 => self.visit(inner, level, chain + 1)?,
                deeper => self.visit(inner, level + deeper, 0)?,
            }
        }
        Ok(())
    }
}

/// Whether `value` is nested deeper than `limit`; one without members is nested 0 deep.
pub(crate) fn is_nested_deeper(value: &Value, limit: usize) -> bool {
    let inside = |inner: &Value| limit == 0 || is_nested_deeper(inner, limit - 1);
    match value {
        Value::Object(members) => members.values().any(inside),
        Value::Array(items) => items.iter().any(inside),
        _ => false,
    }
}

/// Finds the marked arguments.
struct Redacted<'a> {
    root: &'a Value,
    found: Vec<String>,
    /// Schemas that are still looked at: one that refers to itself several times has more of them than there is time.
    budget: usize,
}

impl Redacted<'_> {
    fn of(schema: &Value) -> Arc<[String]> {
        let mut redacted = Redacted { root: schema, found: Vec::new(), budget: MAX_VISITS };
        if is_marked(schema) {
            redacted.visit(schema, &mut String::new(), 0);
        }
        match redacted.budget {
            0 => [String::new()].into(), // Rather everything than too little.
            _ => redacted.found.into(),
        }
    }

    fn visit(&mut self, schema: &Value, pointer: &mut String, references: usize) {
        self.budget = self.budget.saturating_sub(1);
        if self.budget == 0 {
            return;
        }
        // What a schema that refers to itself says of deeper arguments goes for the whole of them.
        if schema.get(REDACT) == Some(&Value::Bool(true)) || references > MAX_REFERENCES {
            if !self.found.contains(pointer) {
                self.found.push(pointer.clone());
            }
            return;
        }
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'));
        if let Some(target) = target.and_then(|target| self.root.pointer(target)) {
            self.visit(target, pointer, references + 1);
        }
        let length = pointer.len();
        for (keyword, step, inner) in subschemas(schema) {
            match (keyword, step) {
                ("properties", Some(name)) => push(pointer, &name),
                ("$defs" | "definitions", _) => continue,
                _ => {} // Of an item or an unnamed member there is no pointer: the whole is meant.
            }
            self.visit(inner, pointer, references);
            pointer.truncate(length);
        }
    }
}

/// Whether anything in `schema` may be marked.
fn is_marked(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().any(|(name, value)| {
            (name == REDACT && value == &Value::Bool(true)) || is_marked(value)
        }),
        Value::Array(items) => items.iter().any(is_marked),
        _ => false,
    }
}

fn strip_redact(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    members.remove(REDACT);
    for (keyword, value) in members {
        match (Holds::of(keyword), value) {
            (Holds::Nothing, _) => {}
            (Holds::InnerMap | Holds::Definitions, Value::Object(map)) => {
                map.values_mut().for_each(strip_redact);
            }
            (_, Value::Array(list)) => list.iter_mut().for_each(strip_redact),
            (_, value) => strip_redact(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(properties: &Value) -> Value {
        json!({ "type": "object", "properties": properties })
    }

    /// Arguments nested `depth` deep.
    fn nested(depth: usize) -> Value {
        if depth <= 1 {
            json!({ "type": "string" })
        } else {
            object(&json!({ "a": nested(depth - 1) }))
        }
    }

    #[test]
    fn a_schema_that_is_of_no_use_is_refused_with_the_place() {
        for (schema, place, why) in [
            (json!("object"), "", "\"type\": \"object\""),
            (json!([]), "", "\"type\": \"object\""),
            (json!(true), "", "\"type\": \"object\""),
            (json!({ "type": "string" }), "", "\"type\": \"object\""),
            (json!({ "type": ["object", "null"] }), "", "\"type\": \"object\""),
            (object(&json!({ "a": { "type": "text" } })), "/properties/a/type", "text"),
            (
                object(&json!({ "a": { "type": "string", "pattern": "(" } })),
                "/properties/a/pattern",
                "",
            ),
            (object(&json!({ "a": { "minLength": -1 } })), "/properties/a/minLength", ""),
            (json!({ "type": "object", "required": "a" }), "/required", ""),
            (
                object(&json!({ "a/b": { "$ref": "https://example.com/x.json" } })),
                "/properties/a~1b",
                "another document",
            ),
            (
                nested(7),
                "/properties/a/properties/a/properties/a/properties/a/properties/a/properties/a",
                "deeper",
            ),
            (object(&json!({ "a": { "description": "x".repeat(MAX_SCHEMA) } })), "", "bytes"),
        ] {
            let error = check_schema(&schema)
                .expect_err(&schema.to_string()[..40.min(schema.to_string().len())]);
            assert_eq!(error.place, place, "{error}");
            assert!(error.why.contains(why), "{error}");
        }
        let mut bottomless = json!({});
        for _ in 0..100 {
            bottomless = json!({ "x": bottomless });
        }
        assert!(check_schema(&object(&json!({ "a": { "examples": bottomless } }))).is_err());
        assert!(check_schema(&object(&json!({ "a": { "$ref": "#/$defs/none" } }))).is_err());
    }

    #[test]
    fn six_levels_and_a_schema_that_refers_to_itself_are_taken() {
        check_schema(&nested(6)).expect("six levels");
        let list = json!({
            "type": "object",
            "properties": { "next": { "$ref": "#" }, "secret": { "type": "string", "x-redact": true } },
        });
        let compiled = ArgumentSchema::compile(&list, MAX_DEPTH).expect("it refers to itself");
        let redacted = |pointer: &str| compiled.redacted().iter().any(|known| known == pointer);
        assert!(redacted("/secret") && redacted("/next/secret"));
        assert!(redacted("/next/next/next/next/next/next/next/next/next"), "all that is deeper");
    }

    #[test]
    fn a_schema_that_refers_to_itself_many_times_is_redacted_as_a_whole() {
        let many: Map<String, Value> =
            (0..50).map(|n| (format!("p{n}"), json!({ "$ref": "#" }))).collect();
        let mut schema = object(&Value::Object(many));
        assert!(Redacted::of(&schema).is_empty());
        schema["properties"]["p0"] = json!({ "type": "string", "x-redact": true });
        assert_eq!(*Redacted::of(&schema), [String::new()]);
    }

    #[test]
    fn a_schema_that_takes_for_ever_is_refused() {
        let mut definitions = Map::new();
        for n in 0..29 {
            let next = json!({ "$ref": format!("#/$defs/a{}", n + 1) });
            definitions.insert(format!("a{n}"), json!({ "allOf": [next, next] }));
        }
        definitions.insert("a29".into(), json!({ "type": "string" }));
        let bomb = json!({
            "type": "object", "properties": { "x": { "$ref": "#/$defs/a0" } }, "$defs": definitions,
        });
        let branching = json!({
            "type": "object",
            "properties": { "x": { "allOf": [{ "$ref": "#" }, { "$ref": "#" }, { "$ref": "#" }] } },
        });
        let circle = json!({ "type": "object", "$ref": "#/$defs/a", "$defs": {
            "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } });
        let itself = json!({ "type": "object", "allOf": [{ "$ref": "#" }] });
        for schema in [bomb, branching, circle, itself] {
            let error = check_schema(&schema).expect_err("it takes for ever");
            assert!(error.why.contains("more work"), "{error}");
            assert!(ResultSchema::compile(&schema).is_err());
        }
        let tree = json!({ "type": "object", "properties": { "l": { "$ref": "#" }, "r": { "$ref": "#" } } });
        check_schema(&tree).expect("a tree");
        let anchored = object(&json!({ "a": { "$dynamicRef": "#x" } }));
        assert!(check_schema(&anchored).is_err());
    }

    #[test]
    fn every_standard_tool_has_a_schema_of_use() {
        for name in tandem_call::STANDARD_TOOLS {
            let tool = tandem_call::standard_tool(name).expect("a standard tool");
            check_schema(&tool.parameters).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        check_schema(&Value::Null).expect("a tool without arguments");
    }

    #[test]
    fn marks_become_pointers_and_are_not_declared() {
        let schema = json!({
            "type": "object",
            "properties": {
                "pin": { "type": "string", "x-redact": true },
                "x-redact": { "type": "string" },
                "a/b": { "type": "string", "x-redact": true },
                "open": { "type": "string", "x-redact": false },
                "card": { "type": "object", "properties": {
                    "number": { "type": "string", "x-redact": true }, "year": { "type": "integer" } } },
                "people": { "type": "array", "items": { "type": "object", "properties": {
                    "name": { "type": "string" } }, "x-redact": true } },
                "either": { "anyOf": [ { "type": "null" }, { "type": "string", "x-redact": true } ] },
                "same": { "$ref": "#/$defs/secret" },
            },
            "$defs": { "secret": { "type": "string", "x-redact": true } },
        });
        let compiled = ArgumentSchema::compile(&schema, MAX_DEPTH).expect("a schema");
        let mut redacted = compiled.redacted().to_vec();
        redacted.sort();
        assert_eq!(redacted, ["/a~1b", "/card/number", "/either", "/people", "/pin", "/same"]);
        let declared = compiled.declared();
        assert_eq!(declared["properties"]["pin"], json!({ "type": "string" }));
        assert_eq!(
            declared["properties"]["x-redact"],
            json!({ "type": "string" }),
            "an argument's name"
        );
        assert!(!declared.to_string().contains("\"x-redact\":true"), "{declared}");
    }

    #[test]
    fn an_answer_is_compared_with_its_schema_without_repeating_it() {
        let schema = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
        let schema = ResultSchema::compile(&schema).expect("a schema");
        assert_eq!(schema.mismatch(&json!({ "n": 1 })), None);
        let mismatch = schema.mismatch(&json!({ "n": "secret" })).expect("no integer");
        assert!(mismatch.contains("/n") && !mismatch.contains("secret"), "{mismatch}");
    }
}
