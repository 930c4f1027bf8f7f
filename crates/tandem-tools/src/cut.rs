//! Data that is too much for a model, cut so that it stays JSON.

use serde_json::{Map, Value};

/// How much data a model is given beside the status and the message, in bytes of compact JSON (control API 11.3).
pub const MAX_DATA: usize = 8 * 1024;

/// What a cut text ends with.
const MORE: &str = "…";

/// The first [`MAX_DATA`] bytes of `members`, still whole values: long texts and lists lose their ends, later members
/// go. When something went there is a member `truncated: true`.
pub fn cut(mut members: Map<String, Value>) -> Map<String, Value> {
    if size(&members) <= MAX_DATA {
        return members;
    }
    members.remove("truncated");
    let mut room = MAX_DATA - r#"{"truncated":true,}"#.len();
    let mut kept = cut_members(members, &mut room);
    kept.insert("truncated".into(), true.into());
    kept
}

fn size(value: &impl serde::Serialize) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |text| text.len())
}

/// What of `value` fits into `room`, which becomes less by it; `false` when something went.
fn fit(value: Value, room: &mut usize) -> Option<(Value, bool)> {
    let whole = size(&value);
    if whole <= *room {
        *room -= whole;
        return Some((value, true));
    }
    match value {
        Value::String(text) => {
            let mut left = room.checked_sub(2 + MORE.len())?;
            let end = text.char_indices().find(|(_, c)| match left.checked_sub(written(*c)) {
                Some(less) => {
                    left = less;
                    false
                }
                None => true,
            });
            let end = end.map_or(text.len(), |(index, _)| index);
            *room = left;
            (end > 0).then(|| (Value::String(format!("{}{MORE}", &text[..end])), false))
        }
        Value::Array(items) => {
            *room = room.checked_sub(2)?;
            let mut kept = Vec::new();
            for item in items {
                let Some(left) = room.checked_sub(1) else { break };
                *room = left;
                let Some((item, whole)) = fit(item, room) else { break };
                kept.push(item);
                if !whole {
                    break;
                }
            }
            (!kept.is_empty()).then_some((Value::Array(kept), false))
        }
        Value::Object(members) => {
            *room = room.checked_sub(2)?;
            let kept = cut_members(members, room);
            (!kept.is_empty()).then_some((Value::Object(kept), false))
        }
        _ => None,
    }
}

fn cut_members(members: Map<String, Value>, room: &mut usize) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in members {
        let around = size(&name) + 2; // A colon and a comma.
        let Some(mut inside) = room.checked_sub(around) else { continue };
        if let Some((value, _)) = fit(value, &mut inside) {
            *room = inside;
            kept.insert(name, value);
        }
    }
    kept
}

/// Bytes of `c` in a JSON text.
fn written(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn cut_value(value: Value) -> Value {
        let Value::Object(members) = value else { panic!("an object") };
        Value::Object(cut(members))
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let data = json!({ "a": "x".repeat(8_000), "b": [1, 2], "truncated": false });
        assert_eq!(cut_value(data.clone()), data);
    }

    #[test]
    fn what_does_not_fit_loses_its_end() {
        let text = cut_value(json!({ "a": "ü".repeat(20_000), "b": 1 }));
        assert_eq!(text["truncated"], true);
        assert!(text["a"].as_str().unwrap().ends_with('…'), "{text}");
        assert!(size(&text) <= MAX_DATA && size(&text) > MAX_DATA - 64, "{}", size(&text));

        let list =
            cut_value(json!({ "rows": (0..5_000).map(|n| json!({ "n": n })).collect::<Vec<_>>() }));
        let rows = list["rows"].as_array().unwrap();
        assert!(rows.len() > 500 && rows.len() < 5_000, "{}", rows.len());
        assert_eq!(rows[7], json!({ "n": 7 }));

        let small_ones_stay =
            cut_value(json!({ "big": 0, "a": 1, "z": { "y": "x".repeat(9_000) } }));
        assert_eq!(small_ones_stay["a"], 1);
        assert!(small_ones_stay["z"]["y"].is_string());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\PC\n\"\\\\\u{1}]{0,3000}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"]{0,12}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_is_longer_than_it_may_be(members in prop::collection::btree_map("[a-z]{1,9}", any_json(), 0..9)) {
            let members: Map<String, Value> = members.into_iter().collect();
            let fits = size(&members) <= MAX_DATA;
            let kept = cut(members.clone());
            prop_assert!(size(&kept) <= MAX_DATA);
            prop_assert_eq!(kept == members, fits || members.is_empty());
        }
    }
}
