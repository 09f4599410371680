//! Every case in `tests/cases/`, and one for each answer in `tests/answers/`, on some runners, with known refusals and
//! coalescing switched on and off in all combinations: a test of its own name for each, `<runner>::<area>/<name>`, with
//! what is off behind the runner's name.
//!
//! A file that is no case, or that no runner runs, is a failing test.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::{
    answers,
    case::Case,
    runner::{self, Runner},
};

/// The runners that there are. A case may skip some of them, but not all.
const RUNNERS: [&str; 3] = ["engine", "component", "shim"];

/// What is switched off, and how tests are named then.
const COMBINATIONS: [Combination; 4] = [
    ("", &[]),
    ("-asking", &[("remember_refusals", false)]),
    ("-apart", &[("coalesce", false)]),
    ("-asking-apart", &[("remember_refusals", false), ("coalesce", false)]),
];

/// How tests are named that run with these fields.
type Combination = (&'static str, &'static [(&'static str, bool)]);

/// What cases run on.
pub type Runners = Vec<Arc<dyn Runner + Send>>;

/// Runs them, as the arguments of the process say, which are those of any test.
///
/// # Panics
///
/// When there are no cases, or a runner that nobody knows.
pub fn run(runners: &Runners) -> ExitCode {
    let arguments = Arguments::from_args();
    assert!(
        runners.iter().all(|runner| RUNNERS.contains(&runner.name())),
        "cases know no other runners than {RUNNERS:?}"
    );
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
    let mut trials: Vec<_> = files(&directory).iter().flat_map(|file| trials(&directory, file, runners)).collect();
    assert!(!trials.is_empty(), "there are no cases in {}", directory.display());
    let answers = answers::all();
    trials.extend(answers.iter().enumerate().flat_map(|(number, answer)| {
        on_runners(&answer.case(number), runners, COMBINATIONS.get(..1).unwrap_or_default())
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Every file below a directory, in order.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a directory can be listed").path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn trials(directory: &Path, file: &Path, runners: &Runners) -> Vec<Trial> {
    let path = file.strip_prefix(directory).unwrap_or(file).with_extension("");
    let name = path.display().to_string();
    match case(file, &name) {
        Ok(case) => on_runners(&case, runners, &COMBINATIONS),
        Err(error) => vec![Trial::test(format!("no-case::{name}"), move || Err(Failed::from(error)))],
    }
}

fn case(file: &Path, name: &str) -> Result<Case, String> {
    if file.extension().is_none_or(|extension| extension != "yaml") {
        return Err("not a YAML file: no runner would run it".to_owned());
    }
    let yaml = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let case = Case::read(name, &yaml)?;
    let unknown: BTreeMap<_, _> = case.skip.iter().filter(|(runner, _)| !RUNNERS.contains(&runner.as_str())).collect();
    if !unknown.is_empty() {
        return Err(format!("`skip` names no runner: {unknown:?}"));
    }
    if case.skip.len() == RUNNERS.len() {
        return Err("every runner skips it".to_owned());
    }
    Ok(case)
}

fn on_runners(case: &Case, runners: &Runners, combinations: &[Combination]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (suffix, fields) in combinations {
        let case = Arc::new(case.with_fields(fields));
        for runner in runners.iter().filter(|runner| !case.skip.contains_key(runner.name())) {
            let (case, runner) = (Arc::clone(&case), Arc::clone(runner));
            let name = format!("{}{suffix}::{}", runner.name(), case.name);
            trials.push(Trial::test(name, move || Ok(runner::run(&case, runner.as_ref())?)));
        }
    }
    trials
}
