//! The command line.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use slidegate::Module;
use slidegate_document::schema;

use crate::cache::CacheCommand;
use crate::demo::Demo;
use crate::explain::ExplainCommand;
use crate::gateway::{self, Listeners, Start};
use crate::init::{self, Init};
use crate::limit_tests::LimitTests;
use crate::migrate::{self, Migrate};
use crate::output::OutputFormat;
use crate::replay::LogReplay;
use crate::settings::file::{self, Occasion};
use crate::settings::source::{Overrides, SettingsSource};
use crate::settings::{Mistake, address_argument, nearest, secret::text_shown};
use crate::{check, logging, manual, output};

/// A gateway with a cluster rate limiter: true sliding windows, counted in Redis or in the process.
///
/// Without a command it runs a demo on its own: local windows, no Redis, an upstream of its own, and a list of curl
/// lines to try; `serve --demo llm` runs that of limits on tokens.
#[derive(Debug, Parser)]
#[command(name = NAME, version, max_term_width = 100, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Commands>,
    #[command(flatten)]
    options: Options,
}

/// What this program is called.
const NAME: &str = "slidegate";

/// The library would leave the option out, as one of both is enough.
const SERVE_USAGE: &str = "slidegate serve [OPTIONS] <FILE>\n       slidegate serve [OPTIONS] --demo [<KIND>]";

const EXIT_CODES: &str = "Exit codes: 0 all is well; 1 a mistake in a file, or it cannot be read or served (with \
                          `check --strict` also a warning, with `migrate` a plugin that cannot be converted, or none); \
                          2 a mistake in the command line, with `test` also in a file; 3, with `replay`, more would be \
                          refused than is allowed.";

#[derive(Debug, Subcommand)]
enum Commands {
    /// Serve what a settings file says, or a demo. The file is read again when it changes, and on SIGHUP; SIGTERM
    /// drains.
    #[command(group = ArgGroup::new("what").args(["file", "demo"]).required(true), override_usage = SERVE_USAGE)]
    Serve {
        /// The settings, YAML, or JSON if its name ends in `.json`. A pipe and `-`, standard input, are read once.
        file: Option<PathBuf>,
        /// In place of a file: a gateway with an upstream of its own, and a list of what to try. Without a kind the
        /// demo of limits on requests.
        #[arg(long, value_enum, value_name = "KIND", num_args = 0..=1, default_missing_value = "requests")]
        demo: Option<Demo>,
        #[command(flatten)]
        options: Options,
    },
    /// Check a settings file, or resources of Higress' plugin, and print how they are understood. Ends with 1 if there
    /// are mistakes.
    Check {
        /// The settings, YAML, or JSON if its name ends in `.json`; or resources, also lists and several documents. `-`
        /// is standard input.
        file: PathBuf,
        /// End with 1 if there are warnings, too.
        #[arg(long)]
        strict: bool,
        /// Also ask each Redis for a decision, and connect to each upstream. End with 1 if one of them is not there.
        #[arg(long)]
        connect: bool,
        /// How to tell what is found: `text` for people, `json` for editors and other programs, an array of what is
        /// wrong or odd.
        #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
        output: OutputFormat,
        #[command(flatten)]
        options: Options,
    },
    /// Look at responses that a filter keeps, and void them.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Print a JSON Schema of what may be written, for editors and other programs.
    Schema {
        /// Of the gateway's file, of a filter's document, of a resource that carries one, of tests of limits, or, in
        /// YAML, the form of Higress' console.
        #[arg(long, value_enum, default_value_t)]
        kind: SchemaKind,
    },
    /// Turn resources of Higress' `cluster-key-rate-limit` and `ai-token-ratelimit` into Slidegate's, and tell what
    /// changes. Ends with 1, and writes nothing, if one of them cannot be converted; other resources are left out.
    Migrate {
        #[command(flatten)]
        migrate: Migrate,
        #[command(flatten)]
        filter: FilterFile,
    },
    /// Run tests of limits: which requests come when, and what must become of them. No time passes and no Redis is
    /// asked. Ends with 1 if one fails, and with 2 if a file cannot be read.
    Test {
        #[command(flatten)]
        tests: LimitTests,
        #[command(flatten)]
        filter: FilterFile,
    },
    /// Tell what a request would meet: its route, each rule and why it does or does not apply, and how its limits
    /// stand. Nothing is charged. Ends with 0 if it would pass, with 3 if it would be answered, and with 4 if that
    /// depends on a Redis that was not asked.
    Explain {
        #[command(flatten)]
        explain: ExplainCommand,
        #[command(flatten)]
        filter: FilterFile,
    },
    /// Tell what limits would have done to the requests of a log. Nothing is sent, and no Redis is asked. Ends with 1
    /// if a file or a log cannot be read, and with 3 if more would be refused than is allowed.
    Replay {
        #[command(flatten)]
        replay: LogReplay,
        #[command(flatten)]
        filter: FilterFile,
    },
    /// Write a file to begin with, with comments.
    Init(Init),
    /// Print what makes a shell complete this command, as for `source <(slidegate completions bash)`.
    Completions { shell: Shell },
    /// Print the manual page; or write it and those of all commands into a folder.
    Man {
        /// Where to, as `/usr/local/share/man/man1`.
        folder: Option<PathBuf>,
    },
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum SchemaKind {
    #[default]
    Gateway,
    Filter,
    #[value(name = "wasmplugin")]
    WasmPlugin,
    /// Tests of limits.
    Test,
    Console,
}

impl SchemaKind {
    fn print(self) -> Result<(), Mistake> {
        let schema = match self {
            Self::Gateway => schema::gateway(),
            Self::Filter => schema::filter(),
            Self::WasmPlugin => schema::wasm_plugin(),
            Self::Test => schema::limit_tests(),
            Self::Console => {
                let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
                let form = serde_saphyr::to_string_with_options(&schema::console(), options);
                let unwritten = |error| Mistake::new("", format!("the form cannot be written as YAML: {error}"));
                return output::print(&form.map_err(unwritten)?);
            }
        };
        output::print(&format!("{schema:#}\n"))
    }
}

/// What is said over a file, or over the demo.
#[derive(Debug, Args)]
struct Options {
    /// Listen here, whatever the file says.
    #[arg(long, value_name = "ADDRESS", value_parser = address_argument)]
    listen: Option<SocketAddr>,
    /// Serve the admin port here, whatever the file says.
    #[arg(long, value_name = "ADDRESS", value_parser = address_argument)]
    admin: Option<SocketAddr>,
    /// Count in this Redis. Stands for every service name in the filter's configuration; turns the demo to a real
    /// Redis.
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Threads that serve requests, each with a filter instance of its own [default: one a core].
    #[arg(long, value_name = "COUNT", value_parser = workers_argument)]
    workers: Option<u16>,
    #[command(flatten)]
    filter: FilterFile,
}

/// The filter.
#[derive(Debug, Args)]
struct FilterFile {
    /// Load the filter from this file instead of the one that is built in.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
}

/// How many workers an option asks for.
fn workers_argument(text: &str) -> Result<u16, &'static str> {
    let workers = text.parse().ok().filter(|workers| (1..=1024).contains(workers));
    workers.ok_or("expected a whole number from 1 to 1024")
}

/// Reads the command line and does what was asked for. What goes wrong is printed to standard error.
pub(crate) fn run() -> ExitCode {
    match Cli::try_parse() {
        Ok(Cli { command: Some(Commands::Other(words)), .. }) => unknown_command(&words),
        Ok(cli) => cli.run(),
        Err(error) if let Some(word) = helpless(&error) => unknown_command(&[word]),
        Err(error) => {
            // An argument in the wrong place may be a URL with a password in it.
            let arguments: Vec<String> =
                std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
            let values = arguments.iter().filter_map(|argument| argument.split_once('=')).map(|(_, value)| value);
            let texts = arguments.iter().map(String::as_str).chain(values);
            let secret: Vec<&str> = texts.filter(|text| text_shown(text) != *text).collect();
            match secret.is_empty() || !error.use_stderr() {
                true => drop(error.print()),
                false => {
                    let text = error.render().to_string();
                    output::tell(
                        secret.iter().fold(text, |text, secret| text.replace(secret, &text_shown(secret))).trim_end(),
                    );
                }
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

/// The word that is no command, of a command line that asks for help with it: the library guesses nothing there.
fn helpless(error: &clap::Error) -> Option<OsString> {
    let mut words = std::env::args_os().skip(1);
    let asks_for_help = words.next().is_some_and(|word| word == "help");
    let (word, others) = (words.next()?, words.next());
    (asks_for_help && others.is_none() && error.kind() == ErrorKind::InvalidSubcommand).then_some(word)
}

/// Says what may have been meant by a word that is no command: a command, or a file to serve.
fn unknown_command(words: &[OsString]) -> ExitCode {
    let word = words.first().map(OsString::as_os_str).unwrap_or_default();
    let shown = text_shown(&word.to_string_lossy());
    let is_file =
        |word: &OsStr| word == "-" || PathBuf::from(word).exists() || word.to_string_lossy().contains(['.', '/']);
    let mut cli = Cli::command();
    cli.build();
    let commands: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    let hint = match nearest(&shown, commands.iter().copied()) {
        _ if is_file(word) => {
            format!("to serve a file, say `slidegate serve {shown}`; to check it, `slidegate check {shown}`")
        }
        Some(command) => format!("did you mean `slidegate {command}`?"),
        None => format!("expected one of `{}`", commands.join("`, `")),
    };
    let (kind, message) = match commands.contains(&&*shown) {
        // Behind an option that is the demo's, no word is a command.
        true => (ErrorKind::ArgumentConflict, format!("options of a command stand behind it: `{NAME} {shown} ...`")),
        false => (ErrorKind::InvalidSubcommand, format!("there is no command `{shown}`: {hint}")),
    };
    let _ = Cli::command().error(kind, message).print();
    ExitCode::from(2)
}

impl Cli {
    fn run(self) -> ExitCode {
        let misread = match &self.command {
            Some(Commands::Cache(cache)) => cache.misread(),
            Some(Commands::Explain { explain, .. }) => explain.misread(),
            _ => None,
        };
        if let Some(reason) = misread {
            let _ = Cli::command().error(ErrorKind::ValueValidation, reason).print();
            return ExitCode::from(2);
        }
        match &self.command {
            Some(Commands::Test { tests, filter }) => return filter.tried(|module| tests.run(module)),
            Some(Commands::Explain { explain, filter }) => return filter.tried(|module| explain.run(module)),
            Some(Commands::Replay { replay, filter }) => return filter.tried(|module| replay.run(module)),
            _ => {}
        }
        let shows_lines = matches!(self.command, Some(Commands::Check { .. }));
        let (name, done) = done(self.command, self.options);
        // Before anything is printed beside the log.
        logging::flush();
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(mistakes) => {
                for mistake in &mistakes {
                    output::tell(mistake.in_file(&name));
                    mistake.place.iter().filter(|_| shows_lines).for_each(|place| output::tell(&place.snippet));
                }
                ExitCode::FAILURE
            }
        }
    }
}

/// What was read, by its name, and what became of it.
type Done = (String, Result<(), Vec<Mistake>>);

/// Does what was asked for. `alone`: the options without a command.
fn done(command: Option<Commands>, alone: Options) -> Done {
    let of_program = |done: Result<(), Mistake>| (NAME.to_owned(), done.map_err(|mistake| vec![mistake]));
    match command {
        Some(Commands::Serve { file: Some(file), options, .. }) => with_filter(&options.filter, |module| {
            let source = options.source(file);
            (source.name(), serve(source, module, &options))
        }),
        Some(Commands::Serve { demo, options, .. }) => of_demo(demo.unwrap_or_default(), &options),
        Some(Commands::Check { file, strict, connect, output, options }) => {
            let source = options.source(file);
            let how = check::How { is_strict: strict, connects: connect, as_json: output == OutputFormat::Json };
            match options.filter.module() {
                Ok(module) => (source.name(), check::run(&source, module, options.redis.clone(), how)),
                Err(mistake) if how.as_json => (NAME.to_owned(), check::refused(&source, mistake)),
                Err(mistake) => (NAME.to_owned(), Err(vec![mistake])),
            }
        }
        Some(Commands::Migrate { migrate, filter }) => {
            with_filter(&filter, |module| (migrate.file_name(), migrate::run(&migrate, &module)))
        }
        Some(Commands::Cache(cache)) => match Module::embedded() {
            Ok(module) => (cache.name(), cache.run(&module)),
            Err(error) => of_program(Err(Mistake::new("the component that is built in", error.to_string()))),
        },
        Some(Commands::Init(init)) => (init.file_name(), init::run(&init).map_err(|mistake| vec![mistake])),
        Some(Commands::Schema { kind }) => of_program(kind.print()),
        Some(Commands::Completions { shell }) => of_program(manual::completions(shell, &mut Cli::command())),
        Some(Commands::Man { folder }) => of_program(manual::pages(Cli::command(), folder.as_deref())),
        Some(Commands::Test { .. } | Commands::Explain { .. } | Commands::Replay { .. } | Commands::Other(_))
        | None => of_demo(Demo::default(), &alone),
    }
}

fn of_demo(demo: Demo, options: &Options) -> Done {
    with_filter(&options.filter, |module| (NAME.to_owned(), run_demo(demo, module, options)))
}

/// What is done with the filter, or why there is none.
fn with_filter(filter: &FilterFile, act: impl FnOnce(Module) -> Done) -> Done {
    filter.module().map_or_else(|mistake| (NAME.to_owned(), Err(vec![mistake])), act)
}

impl Options {
    fn source(&self, file: PathBuf) -> SettingsSource {
        SettingsSource { file, overrides: self.overrides() }
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen,
            admin: self.admin,
            workers: self.workers.map(usize::from),
            has_redis: self.redis.is_some(),
        }
    }
}

impl FilterFile {
    /// What is done with the filter by a command with exit codes of its own.
    fn tried(&self, act: impl FnOnce(&Module) -> ExitCode) -> ExitCode {
        self.module().map_or_else(
            |mistake| {
                output::tell(mistake.in_file(NAME));
                ExitCode::FAILURE
            },
            |module| act(&module),
        )
    }

    fn module(&self) -> Result<Module, Mistake> {
        let Some(file) = &self.component else {
            return Module::embedded()
                .map_err(|error| Mistake::new("the component that is built in", error.to_string()));
        };
        let from = format!("--component {}", file.display());
        let bytes = file::read(file, Occasion::Start).map_err(|reason| Mistake::new(&from, reason))?;
        Module::from_bytes(&bytes).map_err(|error| Mistake::new(from, error.to_string()))
    }
}

fn serve(source: SettingsSource, module: Module, options: &Options) -> Result<(), Vec<Mistake>> {
    let bytes = source.read(Occasion::Start).map_err(|mistake| vec![mistake])?;
    let settings = source.parse(&bytes, &module)?;
    logging::start(settings.log.format);
    gateway::run(Start {
        listeners: Listeners::bind(&settings).map_err(|mistake| settings.origin.placed(vec![mistake]))?,
        settings,
        module,
        redis: options.redis.clone(),
        source: source.is_there_to_stay().then_some((source, bytes)),
        greeting: None,
    })
}

fn run_demo(demo: Demo, module: Module, options: &Options) -> Result<(), Vec<Mistake>> {
    let start = demo.prepare(options.overrides(), module, options.redis.clone())?;
    gateway::run(start)
}
