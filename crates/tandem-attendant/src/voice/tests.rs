use std::{os::unix::fs::PermissionsExt, path::Path, sync::LazyLock};

use super::*;
use crate::sentence::Occasion;

fn sentence(text: &str) -> Sentence {
    Sentence { text: text.into(), occasion: Occasion::Greeting }
}

/// A runtime for the programs, and a voice on it.
fn voice(settings: VoiceSettings) -> (tokio::runtime::Runtime, Voice) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let voice = Voice::open(settings, runtime.handle().clone());
    (runtime, voice)
}

fn no_engines() -> VoiceSettings {
    VoiceSettings { engines: Vec::new(), ..VoiceSettings::default() }
}

/// A program cannot be started while another thread's child still has it open for writing.
static STARTING_PROGRAMS: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

fn one_at_a_time() -> MutexGuard<'static, ()> {
    STARTING_PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A voice whose flite is the shell script `body`.
fn scripted(
    directory: &Path,
    body: &str,
    time_limit: Duration,
) -> (tokio::runtime::Runtime, Voice) {
    std::fs::write(directory.join("silent.wav"), wave::write(&[], 16_000).unwrap()).unwrap();
    let program = directory.join("flite");
    std::fs::write(&program, format!("#!/bin/sh\ncd {}\n{body}\n", directory.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let programs =
        Programs::new(vec![Engine::Flite], "slt".into()).with_path(directory, time_limit);
    let disk = Some(DiskCache::new(directory.join("cache"), &[Engine::Flite], "slt"));
    let renderer = Renderer::Programs {
        programs: Box::new(programs),
        disk,
        runtime: runtime.handle().clone(),
    };
    (runtime, Voice::new(renderer, 1_000_000))
}

const PATIENT: Duration = Duration::from_secs(60);

/// Copies a wave of 0.5 s to the output, and the text and arguments it was called with next to the program.
fn speaking_program(directory: &Path) -> String {
    let wav = wave::write(&vec![1_000; 11_025], 22_050).unwrap();
    std::fs::write(directory.join("half.wav"), wav).unwrap();
    "cat >> texts; echo \"$@\" >> arguments; cp half.wav \"$6\"".into()
}

#[test]
fn prompts_are_always_there() {
    for voice in [voice(no_engines()).1, Voice::tone(Duration::from_millis(60))] {
        for prompt in [Prompt::OneMoment, Prompt::Trouble, Prompt::Goodbye] {
            assert!(voice.prompt(prompt).len() > 8_000, "{prompt:?} lasts a second");
        }
    }
}

#[test]
fn without_a_program_shipped_phrases_speak() {
    let (runtime, voice) = voice(no_engines());
    runtime.block_on(async {
        let goodbye = voice.render("en-US", "Thank you for calling. Goodbye.").await.unwrap();
        assert!((1.0..3.0).contains(&goodbye.duration().as_secs_f32()), "{:?}", goodbye.duration());
        assert_eq!(voice.render("en", "Welcome to Acme.").await, Err(VoiceError::NoEngine));
        let exact = voice.speak("en", sentence("How can I help you?")).await;
        assert_eq!((exact.text.as_str(), exact.stands_in), ("How can I help you?", false));
        let nearest = voice.speak("en", sentence("Welcome to Acme. How may we help?")).await;
        assert_eq!((nearest.text.as_str(), nearest.stands_in), ("How can I help you?", true));
        assert_eq!(nearest.speech, exact.speech);
        let warmed = voice
            .warm("en", &Script { greeting: "Welcome to Acme.".into(), ..Script::default() })
            .await;
        assert_eq!(warmed.failed, [("Welcome to Acme.".to_owned(), VoiceError::NoEngine)]);
        assert!(warmed.ready > 20);
    });
}

#[test]
fn what_cannot_be_said_is_refused() {
    let (runtime, voice) = voice(no_engines());
    for (text, error) in [
        ("", VoiceError::Empty),
        (" ... ", VoiceError::Empty),
        (&*"a".repeat(1_001), VoiceError::TooLong { chars: 1_001 }),
    ] {
        assert_eq!(runtime.block_on(voice.render("en", text)), Err(error), "{text:?}");
    }
}

#[test]
fn a_text_reaches_the_program_as_input_and_is_rendered_once() {
    let _turn = one_at_a_time();
    let directory = tempfile::tempdir().unwrap();
    let (runtime, voice) = scripted(directory.path(), &speaking_program(directory.path()), PATIENT);
    let text = "-o /etc/passwd; $(touch injected) `x` \"";
    runtime.block_on(async {
        let both = (voice.render("en", text), voice.render("en-GB", text));
        let (first, second) = (both.0.await.unwrap(), both.1.await.unwrap());
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.duration(), Duration::from_millis(500), "brought to 16 kHz");
        assert!(Arc::ptr_eq(&first, &voice.render("en", text).await.unwrap()));
    });
    let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!(read("texts"), format!("{text}\n"));
    assert!(
        read("arguments").starts_with("-voice slt -f /dev/stdin -o /"),
        "{}",
        read("arguments")
    );
    assert!(!read("arguments").contains("passwd"));
    assert!(!directory.path().join("injected").exists());
}

#[test]
fn fixed_sentences_outlive_the_process() {
    let _turn = one_at_a_time();
    let directory = tempfile::tempdir().unwrap();
    let script = Script { greeting: "Welcome to Acme.".into(), ..Script::default() };
    let (runtime, voice) = scripted(directory.path(), &speaking_program(directory.path()), PATIENT);
    let warmed = runtime.block_on(voice.warm("en", &script));
    assert_eq!(warmed, Warmed { ready: script.fixed_sentences().len(), failed: Vec::new() });
    runtime.block_on(voice.render("en", "Hello Ana.")).unwrap();
    let kept = std::fs::read_dir(directory.path().join("cache")).unwrap().count();
    assert_eq!(kept, warmed.ready, "what was said to one caller is not kept");

    let (runtime, voice) = scripted(directory.path(), "exit 1", PATIENT);
    runtime.block_on(voice.render("en", "Welcome to Acme.")).unwrap();
    assert!(runtime.block_on(voice.render("en", "Hello Ana.")).is_err());
}

#[test]
fn programs_fail_in_many_ways() {
    let _turn = one_at_a_time();
    for (name, body, time_limit, expected) in [
        ("exits", "exit 3", PATIENT, "it ended with exit status: 3"),
        ("writes nothing", "cat > /dev/null", PATIENT, "it wrote no wave"),
        ("writes garbage", "echo garbage > \"$6\"", PATIENT, "its wave cannot be read"),
        ("hangs", "exec sleep 60", Duration::from_millis(50), "took longer than"),
        ("makes no sound", "cp silent.wav \"$6\"", PATIENT, "it made no sound"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (runtime, voice) = scripted(directory.path(), body, time_limit);
        let error =
            runtime.block_on(voice.render("en", "Welcome to Acme.")).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(voice.0.state().pending.is_empty());
        let spoken = runtime.block_on(voice.speak("en", sentence("Welcome to Acme.")));
        assert!(spoken.stands_in, "{name}");
    }
}

#[test]
fn flite_is_not_asked_for_other_languages() {
    let _turn = one_at_a_time();
    let directory = tempfile::tempdir().unwrap();
    let (runtime, voice) = scripted(directory.path(), &speaking_program(directory.path()), PATIENT);
    assert_eq!(runtime.block_on(voice.render("es-US", "Buenos días.")), Err(VoiceError::NoEngine));
}

#[test]
fn renders_that_wait_are_limited() {
    let _turn = one_at_a_time();
    let directory = tempfile::tempdir().unwrap();
    let (_runtime, voice) = scripted(directory.path(), "exec sleep 20", PATIENT);
    let waiting: Vec<_> =
        (0..MAX_PENDING).map(|n| voice.render("en", &format!("Sentence {n}."))).collect();
    let refused = voice.rendering("en", "One more.", Keep::Memory);
    assert!(matches!(refused, Rendering::Done(Err(VoiceError::Busy))));
    assert_eq!(voice.0.state().pending.len(), waiting.len());
}

#[test]
fn a_voice_outlives_its_runtime() {
    let _turn = one_at_a_time();
    let directory = tempfile::tempdir().unwrap();
    let (runtime, voice) = scripted(directory.path(), "exec sleep 20", PATIENT);
    let rendering = voice.render("en", "Welcome to Acme.");
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(other.block_on(rendering), Err(VoiceError::Stopped));
}

#[test]
fn languages_are_reduced_to_what_programs_know() {
    for (tag, subtag) in [
        ("en-US", "en"),
        ("ES_mx", "es"),
        ("", "en"),
        ("-v", "en"),
        ("../x", "en"),
        ("yue-HK", "yue"),
    ] {
        assert_eq!(primary_subtag(tag), subtag, "{tag}");
    }
}

#[test]
fn settings_name_a_voice() {
    assert_eq!(VoiceSettings::default().mistake(), None);
    for name in ["", "-o", "a b", "/etc/voice"] {
        let settings = VoiceSettings { flite_voice: name.into(), ..VoiceSettings::default() };
        assert!(settings.mistake().is_some(), "{name:?}");
    }
    assert_eq!(
        toml::from_str::<VoiceSettings>("engines = [\"espeak-ng\"]").unwrap().engines,
        [Engine::EspeakNg]
    );
    assert!(toml::from_str::<VoiceSettings>("engine = \"flite\"").is_err());
}

/// Speaks with what is installed here; a machine without speech programs has nothing to try.
#[test]
fn installed_programs_speak() {
    let _turn = one_at_a_time();
    let (runtime, voice) = voice(VoiceSettings::default());
    for (engine, spoken) in runtime.block_on(voice.try_engines()) {
        match spoken {
            Ok(duration) => {
                assert!((0.2..3.0).contains(&duration.as_secs_f32()), "{engine:?}: {duration:?}");
            }
            Err(error) => assert_eq!(error, VoiceError::NoEngine, "{engine:?}"),
        }
    }
}
