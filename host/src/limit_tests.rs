//! `slidegate test`: tests of limits, which say at what time which request comes and what must become of it. The
//! gateway's own checks, routes and filter decide, on a clock of the test's; nothing is sent, and no time passes.

mod document;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use slidegate::Module;

use self::document::{LimitsSource, TestStep, TestsFile, WrittenTests};
use crate::output;
use crate::settings::Mistake;
use crate::settings::file::Occasion;
use crate::settings::source::{Overrides, SettingsSource};
use crate::subject::{Subject, UnusableFile};

/// What is wrong with the files, and not with the limits.
const BAD_INPUT: u8 = 2;

#[derive(Debug, Args)]
pub(crate) struct LimitTests {
    /// Files of tests, YAML or JSON; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run only tests with this in their names.
    #[arg(long = "filter", value_name = "NAME")]
    only: Option<String>,
}

/// What became of the tests of one file, or of several.
#[derive(Default)]
struct TestTally {
    passed: usize,
    failed: usize,
    filtered_out: usize,
}

impl LimitTests {
    /// Runs all tests and prints what becomes of them.
    pub(crate) fn run(&self, module: &Module) -> ExitCode {
        let (started, mut all, mut is_readable) = (Instant::now(), TestTally::default(), true);
        for file in &self.files {
            let source = SettingsSource { file: file.clone(), overrides: Overrides::default() };
            match self.run_file(&source, module) {
                Ok(tally) => all.add(&tally),
                Err(unreadable) => {
                    unreadable.tell();
                    is_readable = false;
                }
            }
        }
        let result = if all.failed == 0 && is_readable { "ok" } else { "FAILED" };
        let TestTally { passed, failed, filtered_out } = all;
        say(&format!(
            "\ntest result: {result}. {passed} passed; {failed} failed; {filtered_out} filtered out; finished in \
             {:.2}s\n",
            started.elapsed().as_secs_f64()
        ));
        match (is_readable, failed) {
            (false, _) => ExitCode::from(BAD_INPUT),
            (true, 0) => ExitCode::SUCCESS,
            (true, _) => ExitCode::FAILURE,
        }
    }

    /// Runs the tests of one file.
    ///
    /// # Errors
    /// It cannot be read, or the limits cannot.
    fn run_file(&self, source: &SettingsSource, module: &Module) -> Result<TestTally, UnusableFile> {
        let of_file = |mistakes| UnusableFile { file: source.name(), mistakes };
        let bytes = source.read(Occasion::Start).map_err(|mistake| of_file(vec![mistake]))?;
        let file = TestsFile::parse(&bytes).map_err(|mistake| of_file(vec![mistake]))?;
        let WrittenTests { limits, tests } = file.read().map_err(of_file)?;
        let folder = source.file.parent().unwrap_or(Path::new(""));
        let of_limits = |mistakes| match limits.file(folder) {
            Some(file) => UnusableFile { file: file.display().to_string(), mistakes },
            None => of_file(file.placed(mistakes)),
        };
        let subject = match &limits {
            LimitsSource::Filter(filter) => Subject::of_filter(filter.clone()),
            LimitsSource::File(_) => {
                let file = limits.file(folder).unwrap_or_default();
                Subject::read(&SettingsSource { file, overrides: Overrides::default() }, module)
            }
        };
        let subject = subject.map_err(of_limits)?;
        if subject.has_routes()
            && let Some(place) = tests.iter().flat_map(|test| &test.steps).find_map(TestStep::place_of_names)
        {
            let message = "expected only for limits without routes of their own: here they say which is taken";
            return Err(of_file(file.placed(vec![Mistake::new(place, message)])));
        }
        trial::begin(&subject, module).map_err(of_limits)?;
        for remark in &subject.remarks {
            output::tell(format_args!("{}: note: {remark}", source.name()));
        }
        let is_chosen = |name: &str| self.only.as_deref().is_none_or(|only| name.contains(only));
        let chosen: Vec<_> = tests.iter().filter(|test| is_chosen(&test.name)).collect();
        let plural = if chosen.len() == 1 { "" } else { "s" };
        say(&format!("\nrunning {} test{plural} of {}\n", chosen.len(), source.name()));
        let mut failures = Vec::new();
        for test in &chosen {
            let failed = trial::run(test, &subject, module).map_err(of_limits)?;
            say(&format!("test {} ... {}\n", test.name, if failed.is_empty() { "ok" } else { "FAILED" }));
            if !failed.is_empty() {
                failures.push((&test.name, file.placed(failed)));
            }
        }
        let tally = TestTally {
            passed: chosen.len() - failures.len(),
            failed: failures.len(),
            filtered_out: tests.len() - chosen.len(),
        };
        if !failures.is_empty() {
            say("\nfailures:\n");
        }
        for (name, failed) in &failures {
            say(&format!("\n---- {name} ----\n"));
            failed.iter().for_each(|failure| say(&format!("{}\n", failure.in_file(&source.name()))));
        }
        Ok(tally)
    }
}

impl TestTally {
    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.filtered_out += other.filtered_out;
    }
}

/// Prints what somebody reads. If nobody can, the exit code still tells.
fn say(text: &str) {
    if let Err(mistake) = output::print(text) {
        output::tell(mistake);
    }
}
