//! The same clips and seeds give the same files, byte by byte.

use std::{collections::BTreeMap, fs, path::Path};

use tandem_quality::{
    clip::Clip,
    conformance::sha256,
    loss::Random,
    manifest::Manifest,
    report::{self, Plan},
};

/// A second of a gliding buzz with a little noise, for want of a speech program.
fn clip() -> Clip {
    let mut random = Random::new(7);
    let pcm: Vec<i16> = (0..16_000_u32)
        .map(|n| {
            let time = f64::from(n) / 16_000.0;
            let phase = (time * (120.0 + 40.0 * time)).fract();
            let noise = random.below(600) as f64 - 300.0;
            ((phase - 0.5) * 12_000.0 * (time * 12.0).sin().abs() + noise) as i16
        })
        .collect();
    Clip::new("buzz", 16_000, &pcm)
}

/// Makes the files below `directory`; the manifest, and the hash of every file.
fn make(directory: &Path) -> (Manifest, BTreeMap<String, String>) {
    let manifest = report::make(&[clip()], "a test".into(), Vec::new(), &Plan::tiny(), directory)
        .expect("the directory can be written to");
    let hashes = ["reference", "degraded"]
        .into_iter()
        .flat_map(|folder| fs::read_dir(directory.join(folder)).expect("the folder was made"))
        .map(|entry| entry.expect("the folder can be read"))
        .map(|entry| {
            let name = entry.file_name().into_string().expect("names are ASCII");
            (name, sha256(&fs::read(entry.path()).expect("the file can be read")))
        })
        .collect();
    (manifest, hashes)
}

#[test]
fn the_same_seeds_give_the_same_files() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ((first, files), (second, again)) = (make(one.path()), make(two.path()));
    assert_eq!(files, again);
    assert_eq!(first.cells, second.cells);
    assert_eq!(first.clips, second.clips);
    assert!(files.len() > 20, "{files:?}");
}

#[test]
fn every_cell_names_files_that_are_there_and_every_fact_holds() {
    let directory = tempfile::tempdir().unwrap();
    let (manifest, files) = make(directory.path());
    let mut degraded = Vec::new();
    for pair in manifest.cells.iter().flat_map(|cell| &cell.pairs) {
        for file in [&pair.reference, &pair.degraded] {
            assert!(directory.path().join(file).is_file(), "{file}");
        }
        degraded.push(&pair.degraded);
    }
    degraded.sort();
    let count = degraded.len();
    degraded.dedup();
    assert_eq!(degraded.len(), count, "no file is in two cells");
    // All others are references.
    assert_eq!(files.len() - count, 4, "8, 16, 24 and 48 kHz");
    for fact in manifest.facts {
        assert!(fact.holds, "{}", fact.name);
    }
}
