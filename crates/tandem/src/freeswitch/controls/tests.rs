use super::*;
use crate::freeswitch::asked::tests::{read, tools};

#[test]
fn each_control_is_declared_and_its_schema_fits_what_is_read() {
    let departments = ["billing".to_owned()];
    for name in CONTROLS {
        let tool = control_tool(name, &tools(), departments.iter()).unwrap();
        assert_eq!(tool.name, name);
        assert!(tool.description.ends_with('.'), "{name}");
        assert_eq!(tool.parameters["additionalProperties"], json!(false), "{name}");
        let properties = tool.parameters["properties"].as_object().unwrap();
        for required in tool.parameters["required"].as_array().unwrap() {
            assert!(properties.contains_key(required.as_str().unwrap()), "{name} {required}");
        }
        // Every property that is declared can be given, with the first value that the schema allows.
        let arguments = properties.iter().map(|(property, schema)| {
            let value = match (&schema["enum"][0], schema["minimum"].as_i64()) {
                (Value::Null, Some(least)) => json!(least),
                (Value::Null, None) if property == "name" => json!("agent_x"),
                (Value::Null, None) => json!("1"),
                (first, _) => first.clone(),
            };
            (property.clone(), value)
        });
        let arguments = Value::Object(arguments.collect());
        let planned = read(name, arguments.clone()).map_err(|error| error.to_string());
        assert!(planned.is_ok(), "{name} {arguments}: {planned:?}");
    }
    assert_eq!(control_tool("pbx_reboot", &tools(), departments.iter()), None);
}

#[test]
fn a_control_without_what_it_needs_says_what_that_is() {
    let bare = SwitchTools::default();
    let missing = CONTROLS.map(|name| (name, missing_setting(name, &bare).map(|it| it.key)));
    let missing = missing.into_iter().filter_map(|(name, key)| Some((name, key?)));
    assert_eq!(
        missing.collect::<Vec<_>>(),
        [
            ("pbx_valet_park", "lots"),
            ("pbx_play", "sounds"),
            ("pbx_say", "speech"),
            ("pbx_record", "recordings"),
            ("pbx_conference", "rooms"),
            ("pbx_supervise", "supervisor"),
            ("pbx_gateway_status", "gateways"),
        ]
    );
    assert!(CONTROLS.iter().all(|name| missing_setting(name, &tools()).is_none()));
}
