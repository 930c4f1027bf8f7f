use super::*;

fn plan(settings: &TransferSettings) -> TransferPlan {
    TransferPlan::new(settings).unwrap()
}

fn reach(plan: &TransferPlan, kind: TransferKind, target: &str) -> Result<Reach, TargetError> {
    plan.reach(&TransferTarget::new(kind, target))
}

#[test]
fn the_defaults_fit_a_stock_installation() {
    let bare = plan(&TransferSettings::default());
    let whole = plan(&TransferSettings {
        domain: Some("pbx.example".into()),
        gateway: Some("trunk1".into()),
        ..TransferSettings::default()
    });
    for (kind, without, with) in [
        (TransferKind::Extension, Some("bridge user/{target}"), "bridge user/{target}@pbx.example"),
        (TransferKind::Queue, Some("inline callcenter:{target}"), "inline callcenter:{target}"),
        (
            TransferKind::Ringgroup,
            Some("bridge group/{target}"),
            "bridge group/{target}@pbx.example",
        ),
        (TransferKind::Ivr, Some("inline ivr:{target}"), "inline ivr:{target}"),
        (
            TransferKind::Voicemail,
            Some("inline voicemail:default ${domain} {target}"),
            "inline voicemail:default pbx.example {target}",
        ),
        (
            TransferKind::Conference,
            Some("inline conference:{target}@default"),
            "inline conference:{target}@default",
        ),
        (TransferKind::External, None, "bridge sofia/gateway/trunk1/{target}"),
        (
            TransferKind::Sip,
            Some("bridge sofia/external/{target}"),
            "bridge sofia/external/{target}",
        ),
    ] {
        let shown = |plan: &TransferPlan| plan.route(kind).map(ToString::to_string);
        assert_eq!(shown(&bare).as_deref(), without);
        assert_eq!(shown(&whole).as_deref(), Some(with));
    }
    assert_eq!(
        reach(&bare, TransferKind::External, "+13055551234"),
        Err(TargetError::NoRoute("external"))
    );
}

#[test]
fn an_action_of_ones_own_replaces_the_default() {
    let plan = plan(&TransferSettings {
        actions: vec![
            (TransferKind::Extension, "transfer {target} XML {context}".into()),
            (TransferKind::Queue, "inline set:x=1,fifo:{target} in".into()),
            (TransferKind::Ringgroup, "bridge user/1001,user/1002".into()),
        ],
        ..TransferSettings::default()
    });
    assert_eq!(
        reach(&plan, TransferKind::Extension, "1001"),
        Ok(Reach::Dialplan(Extension::new("1001", "default").unwrap()))
    );
    assert_eq!(
        reach(&plan, TransferKind::Queue, "support"),
        Ok(Reach::Inline(vec![
            Application::new("set", "x=1").unwrap(),
            Application::new("fifo", "support in").unwrap()
        ]))
    );
    assert_eq!(
        reach(&plan, TransferKind::Ringgroup, "sales"),
        Ok(Reach::Bridge(DialString::new("user/1001,user/1002").unwrap()))
    );
}

#[test]
fn a_mistake_in_the_settings_is_named() {
    let refuse = |kind, action: &str| {
        TransferPlan::new(&TransferSettings {
            actions: vec![(kind, action.into())],
            ..TransferSettings::default()
        })
        .unwrap_err()
        .to_string()
    };
    assert_eq!(
        refuse(TransferKind::Queue, "enqueue {target}"),
        "the action for queue begins with \"enqueue\"; it must be bridge, inline or transfer"
    );
    assert_eq!(
        refuse(TransferKind::External, "bridge sofia/gateway/{gateway}/{target}"),
        "the action for external: {gateway} is used, but no gateway is configured"
    );
    assert_eq!(
        refuse(TransferKind::Extension, "transfer {target} XML default extra"),
        "the action for extension: nothing may follow the context"
    );
    assert_eq!(
        refuse(TransferKind::Ivr, "inline ivr menu:{target}"),
        "the action for ivr: \"ivr menu\" is no name of an application"
    );
    assert_eq!(
        refuse(TransferKind::Extension, "bridge user/{target} &park()"),
        "the action for extension: the dial string holds ' ' at byte 9"
    );
    for (settings, setting) in [
        (TransferSettings { domain: Some("a b".into()), ..TransferSettings::default() }, "domain"),
        (TransferSettings { ringback: "x\ny".into(), ..TransferSettings::default() }, "ringback"),
    ] {
        let error = TransferPlan::new(&settings).unwrap_err().to_string();
        assert!(error.starts_with(setting), "{error}");
    }
    let settings = TransferSettings { ring_timeout: Duration::ZERO, ..TransferSettings::default() };
    assert_eq!(TransferPlan::new(&settings).unwrap_err(), TransferPlanError::RingTimeout);
}

#[test]
fn a_target_cannot_say_more_than_its_name() {
    let plan =
        plan(&TransferSettings { gateway: Some("trunk1".into()), ..TransferSettings::default() });
    for kind in TransferKind::ALL {
        for bad in [
            "1\nexit", "1\r2", "1 2", "1'2", "1\"2", "1\\2", "1,2", "1|2", "[x=1]1", "{x=1}1",
            "<x>1", "1&2", "1(2)", "1/2", "${x}", "1^2", "é", "1`",
        ] {
            assert!(matches!(reach(&plan, kind, bad), Err(TargetError::Character(_))), "{bad}");
        }
        assert_eq!(reach(&plan, kind, " "), Err(TargetError::Empty));
        assert_eq!(reach(&plan, kind, &"1".repeat(257)), Err(TargetError::TooLong));
    }
    assert!(reach(&plan, TransferKind::Extension, "1001@elsewhere").is_err());
    assert_eq!(
        reach(&plan, TransferKind::Sip, "sip:bob@example.com:5062;transport=tcp"),
        Ok(Reach::Bridge(
            DialString::new("sofia/external/bob@example.com:5062;transport=tcp").unwrap()
        ))
    );
}
