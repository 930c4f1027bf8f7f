//! `tandem-quality-vad DIRECTORY [DOCUMENT]`: compares voice activity detectors on callers in noise, prints the tables, and puts
//! them between the marks in the document. `make quality-vad`.

mod candidate;
mod trial;

use std::{env, error::Error, fmt::Write as _, fs, path::Path};

use tandem_media::SampleRate;
use tandem_quality::{
    clip,
    noise::Noise,
    scene::{Caller, Scene},
};
use trial::Trial;

const LEVELS: [u32; 4] = [20, 10, 5, 0];
const BEGIN: &str = "<!-- begin: made by `make quality-vad`, changes are overwritten -->\n";
const END: &str = "<!-- end: quality-vad -->";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [directory, document @ ..] = arguments.as_slice() else {
        return Err("usage: tandem-quality-vad DIRECTORY [DOCUMENT]".into());
    };
    let directory = Path::new(directory);
    fs::create_dir_all(directory)?;
    let tables = measure(directory)?;
    print!("{tables}");
    if let Some(document) = document.first() {
        let text = fs::read_to_string(document)?;
        let (before, rest) = text.split_once(BEGIN).ok_or("the document has no begin mark")?;
        let (_, after) = rest.split_once(END).ok_or("the document has no end mark")?;
        fs::write(document, format!("{before}{BEGIN}\n{tables}\n{END}{after}"))?;
    }
    Ok(())
}

fn measure(directory: &Path) -> Result<String, Box<dyn Error>> {
    let callers = Caller::all(directory)?;
    let (clips, _) = clip::speak(directory)?;
    let voices: Vec<Vec<f64>> = clips
        .iter()
        .map(|clip| clip.at(SampleRate::Hz8000).iter().map(|&sample| f64::from(sample)).collect())
        .collect();
    let scenes = |noise: Option<(Noise, f64)>| -> Vec<Scene> {
        callers.iter().zip(7..).map(|(it, seed)| it.in_noise(noise, &voices, seed)).collect()
    };
    let mut conditions = vec![("none".to_owned(), scenes(None))];
    for noise in Noise::ALL {
        for level in LEVELS {
            let scenes = scenes(Some((noise, f64::from(level))));
            conditions.push((format!("{}, {level} dB", noise.name()), scenes));
        }
    }
    let candidates = candidate::all();
    let trials: Vec<Vec<Trial>> = candidates
        .iter()
        .map(|(_, make)| conditions.iter().map(|(_, scenes)| Trial::run(*make, scenes)).collect())
        .collect();
    let mut text = String::new();
    writeln!(
        text,
        "|  | sentences found | false starts a minute | onset ms, median / p95 | AUC | hits | false alarms | us for 20 ms |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|")?;
    for ((name, _), trials) in candidates.iter().zip(&trials) {
        let mut all = Trial::default();
        trials.iter().for_each(|trial| all.add(trial.clone()));
        let (found, sentences) = all.found();
        let onset = all.onset().map_or("-".into(), |(median, p95)| format!("{median} / {p95}"));
        let (hits, alarms) = all.rates();
        // Over conditions, for a level is not the same score in each.
        let area = trials.iter().map(Trial::area_under_curve).sum::<f64>() / trials.len() as f64;
        writeln!(
            text,
            "| {name} | {found} of {sentences} | {:.1} | {onset} | {area:.2} | {hits:.0} % | {alarms:.0} % | {:.1} |",
            all.false_starts(),
            all.micros(),
        )?;
    }
    writeln!(
        text,
        "\nBy noise: sentences found of {}, and false starts a minute.\n",
        trials[0][0].found().1
    )?;
    let names: Vec<_> = candidates.iter().map(|(name, _)| *name).collect();
    writeln!(text, "|  | {} |", names.join(" | "))?;
    writeln!(text, "|---|{}", "---|".repeat(names.len()))?;
    for (index, (condition, _)) in conditions.iter().enumerate() {
        write!(text, "| {condition} |")?;
        for trials in &trials {
            write!(text, " {}, {:.1} |", trials[index].found().0, trials[index].false_starts())?;
        }
        writeln!(text)?;
    }
    Ok(text)
}
