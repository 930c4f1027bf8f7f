//! Connections that are replaced: lost, announced, refused.

use super::*;

#[tokio::test]
async fn a_connection_lost_in_mid_answer_is_taken_up_again_with_its_handle() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let (mut server, first) = gemini(&listener).await;
        say(
            &mut server,
            json!({ "sessionResumptionUpdate": { "newHandle": "h-7", "resumable": true } }),
        )
        .await;
        say(
            &mut server,
            json!({ "serverContent": { "modelTurn": { "parts": [
                { "inlineData": { "mimeType": "audio/pcm;rate=24000", "data": "AQI=" } }] } } }),
        )
        .await;
        drop(server); // No close frame.
        let (mut server, second) = gemini(&listener).await;
        (first, second, next_json(&mut server).await)
    });
    let mut client = Client::new(Provider::GeminiLive, address);
    client.ready().await;
    let failure = client.lost().await;
    assert!(matches!(failure.reaction, Reaction::Retry { .. }));
    assert!(failure.reason.contains("connection lost"), "{}", failure.reason);
    assert_eq!(client.ear.audio, [1, 2]);

    // What is ordered now waits for the new connection; what is about the old one does not.
    client.order(ModelCommand::Say("Go on.".into()));
    client.order(ModelCommand::Cancel);
    client.order(ModelCommand::Renew { history: history() });
    client.ready().await;
    let (first, second, words) = client.during(server).await.expect("no panic");
    assert_eq!(first["setup"]["sessionResumption"], json!({}));
    assert_eq!(second["setup"]["sessionResumption"], json!({ "handle": "h-7" }));
    assert_eq!(words, json!({ "realtimeInput": { "text": "Go on." } }));
}

#[tokio::test]
async fn gemini_is_renewed_after_the_old_socket_is_closed() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let (mut old, _) = gemini(&listener).await;
        say(
            &mut old,
            json!({ "sessionResumptionUpdate": { "newHandle": "h-1", "resumable": true } }),
        )
        .await;
        say(&mut old, json!({ "goAway": { "timeLeft": "10s" } })).await;
        let code = closed_with(&mut old).await;
        // Nobody may knock before the old socket is gone.
        let early = timeout(Duration::ZERO, listener.accept()).await.is_ok();
        drop(old);
        let (server, setup) = gemini(&listener).await;
        (code, early, setup, server)
    });
    let mut client = Client::new(Provider::GeminiLive, address);
    client.ready().await;
    client.until(|ear| ear.events.contains(&ModelEvent::ExpiresIn(Duration::from_secs(8)))).await;
    client.ear.events.clear();
    client.order(ModelCommand::Renew { history: history() });
    client.ready().await;
    let (code, early, setup, _held) = client.during(server).await.expect("no panic");
    assert_eq!((code, early), (Some(1000), false));
    assert_eq!(setup["setup"]["sessionResumption"], json!({ "handle": "h-1" }));
    assert!(client.ear.events.is_empty(), "the old one's end is no event: {:?}", client.ear.events);
}

#[tokio::test]
async fn a_refused_handle_leads_to_a_fresh_session_with_the_history() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let (mut server, _) = gemini(&listener).await;
        say(
            &mut server,
            json!({ "sessionResumptionUpdate": { "newHandle": "gone", "resumable": true } }),
        )
        .await;
        drop(server);
        let mut server = accept(&listener).await;
        let resuming = next_json(&mut server).await;
        let refusal = CloseFrame {
            code: CloseCode::Policy,
            reason: "Requested entity was not found.".into(),
        };
        server.close(Some(refusal)).await.expect("sent");
        let (mut server, fresh) = gemini(&listener).await;
        (resuming, fresh, next_json(&mut server).await)
    });
    let mut client = Client::new(Provider::GeminiLive, address);
    client.ready().await;
    client.lost().await;
    client.order(ModelCommand::Renew { history: history() });
    client.ready().await;
    let (resuming, fresh, seed) = client.during(server).await.expect("no panic");
    assert_eq!(resuming["setup"]["sessionResumption"], json!({ "handle": "gone" }));
    assert_eq!(fresh["setup"]["sessionResumption"], json!({}));
    assert_eq!(seed["clientContent"]["turns"][0]["parts"][0]["text"], "Is my bike ready?");
}

#[tokio::test]
async fn openai_is_renewed_without_a_gap() {
    let (listener, address) = listen().await;
    let (renewing, renewed) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let mut old = openai(&listener).await;
        let mut new = accept(&listener).await;
        // The old one still speaks while the new one is being configured.
        say(&mut old, audio_delta("AQID")).await;
        renewing.send(()).expect("the client is there");
        let update = next_json(&mut new).await;
        let seed = next_json(&mut new).await;
        say(&mut new, json!({ "type": "session.updated", "session": {} })).await;
        let code = closed_with(&mut old).await;
        drop(old);
        let audio = new.next().await.expect("a message").expect("whole").into_text().expect("text");
        (update, seed, code, audio.to_string(), new)
    });
    let mut client = Client::new(Provider::OpenAiRealtime, address);
    client.ready().await;
    client.order(ModelCommand::Renew { history: history() });
    client.order(ModelCommand::Renew { history: history() }); // One is under way already.
    client.during(renewed).await.expect("the server is there");
    client.until(|ear| ear.audio == [1, 2, 3]).await;
    client.ready().await;
    client.audio(&[7; 160]);
    let (update, seed, code, audio, _held) = client.during(server).await.expect("no panic");
    assert_eq!(update["type"], "session.update");
    assert_eq!(seed["item"]["content"][0]["text"], "Is my bike ready?");
    assert_eq!(code, Some(1000));
    assert!(audio.starts_with(r#"{"type":"input_audio_buffer.append","audio":"BwcH"#), "{audio}");
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_connection_and_is_asked_for_again() {
    let (listener, address) = listen().await;
    let (failed, refused) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let mut old = openai(&listener).await;
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = vec![0; 4_096];
        let _ = stream.read(&mut request).await;
        stream
            .write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
            .await
            .expect("the client reads");
        failed.send(()).expect("the client is there");
        say(&mut old, audio_delta("AQID")).await;
        old
    });
    let mut client = Client::new(Provider::OpenAiRealtime, address);
    client.ready().await;
    client.order(ModelCommand::Renew { history: Vec::new() });
    client.during(refused).await.expect("the server is there");
    client.until(|ear| ear.audio == [1, 2, 3]).await;
    // The refusal is read at the latest when the old connection's last word is; then time passes.
    let _held = client.during(server).await.expect("no panic");
    for _ in 0..1_000 {
        client.during(tokio::task::yield_now()).await;
    }
    client.ahead = Duration::from_secs(30);
    client
        .until(|ear| ear.events.iter().any(|event| matches!(event, ModelEvent::ExpiresIn(_))))
        .await;
    assert!(!client.ear.events.iter().any(|event| matches!(event, ModelEvent::Lost(_))));
}
