//! `tandem-quality DIRECTORY [--clips DIRECTORY]` makes the sound of the quality report; `make quality` measures it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use tandem_quality::{
    clip,
    error::QualityError,
    report::{self, Plan},
    sweep,
};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let (directory, clips) = match arguments.as_slice() {
        [directory] => (PathBuf::from(directory), None),
        [directory, option, clips] if option == "--clips" => {
            (PathBuf::from(directory), Some(PathBuf::from(clips)))
        }
        _ => {
            eprintln!("usage: tandem-quality DIRECTORY [--clips DIRECTORY-WITH-WAV-FILES]");
            return ExitCode::from(2);
        }
    };
    match run(&directory, clips.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tandem-quality: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &Path, clips: Option<&Path>) -> Result<(), QualityError> {
    let speech = directory.join("speech");
    fs::create_dir_all(&speech)
        .map_err(|source| QualityError::Io { path: speech.clone(), source })?;
    let (clips, version) = match clips {
        Some(directory) => (clip::load(directory)?, "own files".to_owned()),
        None => clip::speak(&speech)?,
    };
    let manifest = report::make(&clips, version, sweep::all(), &Plan::full(), directory)?;
    let path = directory.join("manifest.json");
    let mut json =
        serde_json::to_string_pretty(&manifest).expect("a manifest has only string keys");
    json.push('\n');
    fs::write(&path, json).map_err(|source| QualityError::Io { path, source })
}
