//! The seven standard tools: fixed names and argument schemas (control API 10.1).

use serde_json::{Value, json};

use crate::ToolDeclaration;

/// The names of all standard tools, the two that run inside Tandem first.
pub const STANDARD_TOOLS: [&str; 7] = [
    "transfer_to_human",
    "end_call",
    "create_lead",
    "leave_message",
    "schedule_appointment",
    "check_policy_status",
    "send_sms",
];

/// The declaration of the standard tool `name`, ready for a model, or nothing when there is no such tool.
///
/// The schema is a JSON Schema object with `additionalProperties: false`; all arguments are strings unless the schema
/// says otherwise.
pub fn standard_tool(name: &str) -> Option<ToolDeclaration> {
    let (description, required, properties) = match name {
        "transfer_to_human" => transfer_to_human(),
        "end_call" => end_call(),
        "create_lead" => create_lead(),
        "leave_message" => leave_message(),
        "schedule_appointment" => schedule_appointment(),
        "check_policy_status" => check_policy_status(),
        "send_sms" => send_sms(),
        _ => return None,
    };
    Some(ToolDeclaration {
        name: name.into(),
        description: description.into(),
        parameters: json!({
            "type": "object",
            "required": required,
            "properties": properties,
            "additionalProperties": false,
        }),
    })
}

/// What the model reads, the required arguments, and the properties of the schema.
type Parts = (&'static str, &'static [&'static str], Value);

fn transfer_to_human() -> Parts {
    (
        "Hands the caller over to a person. Say one short sentence that you are connecting them, then call this. \
         Use it when the caller asks for a person or when you cannot help.",
        &["reason"],
        json!({
            "reason": { "type": "string", "description": "Why the caller wants a person" },
            "department": { "type": "string", "description": "Team the caller named, if any" },
        }),
    )
}

fn end_call() -> Parts {
    (
        "Hangs up after your goodbye has been spoken. Say goodbye first. Use it when the conversation is over.",
        &["reason"],
        json!({
            "reason": {
                "type": "string",
                "enum": ["conversation_complete", "caller_goodbye", "no_response", "voicemail_detected"],
            },
            "summary": { "type": "string", "description": "One or two sentences about the call" },
        }),
    )
}

fn create_lead() -> Parts {
    (
        "Records a caller who may become a customer.",
        &["first_name", "phone"],
        json!({
            "first_name": { "type": "string" },
            "last_name": { "type": "string" },
            "phone": { "type": "string", "description": "With country code when known" },
            "email": { "type": "string" },
            "company": { "type": "string" },
            "interest": { "type": "string", "description": "What they want" },
            "notes": { "type": "string" },
            "source": { "type": "string", "default": "phone_call" },
        }),
    )
}

fn leave_message() -> Parts {
    (
        "Takes a message for a person or team.",
        &["caller_name", "caller_phone", "message"],
        json!({
            "caller_name": { "type": "string" },
            "caller_phone": { "type": "string" },
            "for_person": { "type": "string", "description": "Person or team" },
            "message": { "type": "string" },
            "urgent": { "type": "boolean", "default": false },
            "callback_preferred_time": { "type": "string" },
        }),
    )
}

fn schedule_appointment() -> Parts {
    (
        "Books an appointment for the caller.",
        &["caller_name", "phone", "date", "purpose"],
        json!({
            "caller_name": { "type": "string" },
            "phone": { "type": "string" },
            "date": { "type": "string", "description": "As spoken or ISO: tomorrow, Thursday, 2026-04-18" },
            "time": { "type": "string", "description": "As spoken: 2pm, morning, 10:30 AM" },
            "duration": { "type": "string", "description": "30 minutes, 1 hour" },
            "purpose": { "type": "string" },
            "notes": { "type": "string" },
        }),
    )
}

fn check_policy_status() -> Parts {
    (
        "Looks up a policy or account.",
        &["policy_number"],
        json!({
            "policy_number": { "type": "string", "description": "Policy or account number" },
            "phone": { "type": "string" },
            "last_name": { "type": "string" },
            "date_of_birth": { "type": "string" },
            "lookup_type": {
                "type": "string",
                "enum": ["status", "coverage", "renewal", "payment", "claims"],
            },
        }),
    )
}

fn send_sms() -> Parts {
    (
        "Sends a text message, usually to the caller.",
        &["to_phone", "message"],
        json!({
            "to_phone": { "type": "string", "description": "E.164" },
            "message": { "type": "string", "maxLength": 1600, "description": "Best within 160 characters" },
            "purpose": {
                "type": "string",
                "enum": [
                    "appointment_confirmation", "address_info", "reference_number", "follow_up_link", "general",
                ],
            },
            "caller_name": { "type": "string" },
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_required_argument_is_declared_and_nothing_else_is_let_in() {
        for (name, required) in [
            ("transfer_to_human", vec!["reason"]),
            ("end_call", vec!["reason"]),
            ("create_lead", vec!["first_name", "phone"]),
            ("leave_message", vec!["caller_name", "caller_phone", "message"]),
            ("schedule_appointment", vec!["caller_name", "phone", "date", "purpose"]),
            ("check_policy_status", vec!["policy_number"]),
            ("send_sms", vec!["to_phone", "message"]),
        ] {
            let tool = standard_tool(name).unwrap();
            assert!(STANDARD_TOOLS.contains(&name));
            assert_eq!(tool.name, name);
            assert!(!tool.description.is_empty());
            assert_eq!(tool.parameters["required"], json!(required), "{name}");
            assert_eq!(tool.parameters["additionalProperties"], json!(false), "{name}");
            for argument in required {
                assert!(tool.parameters["properties"][argument].is_object(), "{name}.{argument}");
            }
        }
    }

    #[test]
    fn other_names_are_no_standard_tools() {
        for name in ["", "End_call", "operator"] {
            assert_eq!(standard_tool(name), None, "{name:?}");
        }
    }
}
