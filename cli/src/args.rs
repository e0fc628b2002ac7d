//! What was typed, as it was typed: flags, else environment, else defaults. Whether it can be used is for
//! [`crate::settings`] to say.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::runtime::{RuntimeArgs, VERSION};

/// A secure, self-hosted HTTP tunnel
///
/// Puts a web app that runs on your own machine behind a public address, without opening a port there:
/// `gesher server` runs on the public machine, `gesher client` beside the app.
#[derive(Debug, Parser)]
#[command(name = "gesher", version = VERSION, after_help = start(), max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn start() -> String {
    let demo =
        if cfg!(feature = "demo") { "To see it work, all on this machine:\n  gesher demo\n\n" } else { "" };
    format!("{demo}{START}")
}

const START: &str = "\
To start, with the same gesher.secret (umask 077; gesher keygen > gesher.secret) on both machines:
  gesher server --secret-file gesher.secret
  gesher client --secret-file gesher.secret --gateway http://HOST:8000 --pin PIN --target 3000";

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the gateway.";

#[cfg(feature = "capture")]
const REPLAY_EXIT_CODES: &str = "\
Exit codes: 0 everything was decided as it was, 1 something else was decided, or the file cannot be read.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway: takes visitors on a public port and passes their requests to the connectors that joined
    #[command(after_help = EXIT_CODES)]
    Server(ServerArgs),
    /// Run a connector: joins a gateway and passes its visitors' requests to the app on this machine
    #[command(after_help = EXIT_CODES)]
    Client(ClientArgs),
    /// Show it all on this machine: a gateway, two connectors, and a small app to try them with
    #[command(after_help = EXIT_CODES)]
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Print a strong secret
    Keygen,
    /// Run a capture (--capture) again, offline and without the secret, and print what happened
    #[cfg(feature = "capture")]
    #[command(after_help = REPLAY_EXIT_CODES)]
    Replay(ReplayArgs),
    /// Check settings without starting anything, and print the most memory that can be used with them
    #[command(subcommand, after_help = EXIT_CODES)]
    Check(CheckArgs),
}

/// What is checked.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckArgs {
    /// What `gesher server` would be started with
    Server(ServerArgs),
    /// What `gesher client` would be started with
    Client(ClientArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
    /// The port for visitors and connectors; 0 takes a free one
    #[arg(long, value_name = "PORT", env = "GESHER_PORT", default_value_t = 8000)]
    pub(crate) port: u16,
    /// Listen on this IP address only; can be given more than once [default: all addresses]
    #[arg(long, value_name = "ADDR", env = "GESHER_BIND", value_delimiter = ',')]
    pub(crate) bind: Vec<String>,
    /// The PIN that connectors have to know, beside the secret [default: a new one at every start]
    #[arg(long, value_name = "PIN", env = "GESHER_PIN", hide_env_values = true)]
    pub(crate) pin: Option<String>,
    /// How many connectors may be joined at once
    #[arg(long, value_name = "N", env = "GESHER_MAX_CONNECTORS", default_value_t = 1000)]
    pub(crate) max_connectors: usize,
    /// How long the body of a request may be, such as 10M [default: any length]
    #[arg(long, value_name = "SIZE", env = "GESHER_MAX_BODY", value_parser = size)]
    pub(crate) max_body: Option<u64>,
    /// How long the body of a request may rest before the app answers
    #[arg(long, value_name = "TIME", env = "GESHER_BODY_TIMEOUT", default_value = "60s", value_parser = time)]
    pub(crate) body_timeout: Duration,
    /// How long the app may neither take nor send a byte before it answers
    #[arg(long, value_name = "TIME", env = "GESHER_RESPONSE_TIMEOUT", default_value = "60s", value_parser = time)]
    pub(crate) response_timeout: Duration,
    /// How long a visitor may take nothing of what waits for him
    #[arg(long, value_name = "TIME", env = "GESHER_SEND_TIMEOUT", default_value = "5m", value_parser = time)]
    pub(crate) send_timeout: Duration,
    /// The memory for what is under way, all requests together
    #[arg(long, value_name = "SIZE", env = "GESHER_MEMORY", default_value = "256M", value_parser = size)]
    pub(crate) memory: u64,
    /// How long what is open gets to finish when this is stopped
    #[arg(long, value_name = "TIME", env = "GESHER_DRAIN", default_value = "10s", value_parser = time)]
    pub(crate) drain: Duration,
    #[command(flatten)]
    pub(crate) runtime: RuntimeArgs,
    #[cfg(feature = "capture")]
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ClientArgs {
    /// The gateway's address: http://HOST:PORT
    #[arg(long, value_name = "URL", env = "GESHER_GATEWAY")]
    pub(crate) gateway: Option<String>,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
    /// The PIN that the gateway printed at its start
    #[arg(long, value_name = "PIN", env = "GESHER_PIN", hide_env_values = true)]
    pub(crate) pin: Option<String>,
    /// The app: http://HOST:PORT, a port alone, or unix:PATH
    #[arg(long, value_name = "URL", env = "GESHER_TARGET", default_value = "http://localhost:8080")]
    pub(crate) target: String,
    /// The name under which the gateway lists this connector [default: this machine's name]
    #[arg(long, value_name = "TEXT", env = "GESHER_NAME")]
    pub(crate) name: Option<String>,
    /// What the app is told that it is called: preserve (the visitor's name), rewrite (the target's; the visitor's stays in
    /// X-Forwarded-Host where nothing contradicts it), rewrite-all (the target's alone), or a value
    /// [default: rewrite if the target is this machine, else preserve]
    #[arg(long, value_name = "RULE", env = "GESHER_HOST_HEADER")]
    pub(crate) host_header: Option<String>,
    /// The memory for what is under way, all requests together
    #[arg(long, value_name = "SIZE", env = "GESHER_MEMORY", default_value = "64M", value_parser = size)]
    pub(crate) memory: u64,
    /// How long what is open gets to finish when this is stopped
    #[arg(long, value_name = "TIME", env = "GESHER_DRAIN", default_value = "10s", value_parser = time)]
    pub(crate) drain: Duration,
    #[command(flatten)]
    pub(crate) runtime: RuntimeArgs,
    #[cfg(feature = "capture")]
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[cfg(feature = "demo")]
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Send some requests through, show what came back, and exit: with 0 only if all of it was right
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) runtime: RuntimeArgs,
    #[cfg(feature = "capture")]
    #[command(flatten)]
    pub(crate) capture: CaptureArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What of a run is written down, to be run again.
#[cfg(feature = "capture")]
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CaptureArgs {
    /// Write all that this process gets into a new file, for `gesher replay`: a bug seen here can then be seen again.
    /// It has no secret, PIN or key, but what visitors and apps send is in it in plain
    #[arg(long, value_name = "FILE", env = "GESHER_CAPTURE")]
    pub(crate) capture: Option<PathBuf>,
    /// How long that file may become; then this goes on without
    #[arg(long, value_name = "SIZE", env = "GESHER_CAPTURE_MAX", default_value = "1G", value_parser = size)]
    pub(crate) capture_max: u64,
}

#[cfg(feature = "capture")]
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    /// The file that --capture wrote
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SecretArgs {
    /// The secret that gateway and connectors share. Others on this machine can read it in the list of
    /// processes: prefer --secret-file or the environment
    #[arg(long, value_name = "SECRET", env = "GESHER_SECRET", hide_env_values = true)]
    pub(crate) secret: Option<Hidden>,
    /// Read the secret from this file (-: from standard input); one line end at its end does not count
    #[arg(long, value_name = "FILE", env = "GESHER_SECRET_FILE")]
    pub(crate) secret_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// How log lines on stderr are written: for people, or one JSON object a line
    #[arg(long, value_name = "FORMAT", env = "GESHER_LOG_FORMAT", default_value = "human")]
    pub(crate) log_format: LogFormat,
    /// Colour in the log; auto means on a terminal, and not with NO_COLOR
    #[arg(long, value_name = "WHEN", env = "GESHER_COLOR", default_value = "auto")]
    pub(crate) color: ColorWhen,
    /// Log more: queries, addresses, every try to connect
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Log only warnings and errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ColorWhen {
    Auto,
    Always,
    Never,
}

/// A value that does not print.
#[derive(Clone)]
pub(crate) struct Hidden(OsString);

impl Hidden {
    /// The bytes, whether they are UTF-8 or not.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_encoded_bytes()
    }
}

impl From<OsString> for Hidden {
    fn from(typed: OsString) -> Self {
        Self(typed)
    }
}

impl From<&OsStr> for Hidden {
    fn from(typed: &OsStr) -> Self {
        Self(typed.to_owned())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Args {
    /// What this process was started with; prints help, version and wrong usage itself, and exits.
    pub(crate) fn from_command_line() -> Self {
        Self::read(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn read(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(line)?;
        let mut args = Self::from_arg_matches(&matches)?;
        let secret = match &mut args.command {
            Command::Server(server) | Command::Check(CheckArgs::Server(server)) => &mut server.secret,
            Command::Client(client) | Command::Check(CheckArgs::Client(client)) => &mut client.secret,
            #[cfg(feature = "demo")]
            Command::Demo(_) => return Ok(args),
            Command::Keygen => return Ok(args),
            #[cfg(feature = "capture")]
            Command::Replay(_) => return Ok(args),
        };
        let matches =
            matches.subcommand().map(|(_, matches)| matches.subcommand().map_or(matches, |(_, inner)| inner));
        if let Some(matches) = matches {
            secret.prefer_flags(matches, &mut command)?;
        }
        Ok(args)
    }
}

/// A number of bytes: `65536`, `64K`, `10M`, `2G`, in powers of 1024.
fn size(typed: &str) -> Result<u64, String> {
    let (digits, shift) = match typed.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&typed[..typed.len() - 1], 10),
        Some(b'M') => (&typed[..typed.len() - 1], 20),
        Some(b'G') => (&typed[..typed.len() - 1], 30),
        _ => (typed, 0),
    };
    let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "write a number of bytes, or one with K, M or G, such as 256M".into())
}

/// A time span: `500ms`, `60s`, `5m`; not none.
fn time(typed: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(typed).ok().filter(|span| !span.is_zero());
    span.ok_or_else(|| "write a time span such as 500ms, 60s or 5m".into())
}

impl SecretArgs {
    /// A flag beats the environment also where the environment uses the other one of the two names.
    /// clap's own conflicts cannot say that: to them the environment counts as typed.
    fn prefer_flags(&mut self, matches: &ArgMatches, command: &mut clap::Command) -> Result<(), clap::Error> {
        let typed = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        match (typed("secret"), typed("secret_file")) {
            (true, true) => {
                let text = "--secret and --secret-file are both given: one is enough";
                return Err(command.error(ErrorKind::ArgumentConflict, text));
            }
            (true, false) => self.secret_file = None,
            (false, true) => self.secret = None,
            (false, false) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_server_needs_nothing_typed_but_a_secret() {
        let args = Args::read(["gesher", "server", "--secret", "s"]).unwrap();
        let Command::Server(server) = args.command else { panic!("{args:?}") };
        assert_eq!((server.port, server.max_connectors), (8000, 1000));
        assert!(server.bind.is_empty() && server.pin.is_none() && server.secret.secret_file.is_none());
        assert_eq!((server.log.log_format, server.log.color), (LogFormat::Human, ColorWhen::Auto));
        assert_eq!(server.secret.secret.unwrap().into_bytes(), b"s");
    }

    #[test]
    fn a_client_takes_what_the_gateway_prints() {
        let line =
            "gesher client --gateway http://h:8000 --pin ABC123 --secret-file - --host-header rewrite -v";
        let args = Args::read(line.split(' ')).unwrap();
        let Command::Client(client) = args.command else { panic!("{args:?}") };
        assert_eq!(client.gateway.as_deref(), Some("http://h:8000"));
        assert_eq!(client.pin.as_deref(), Some("ABC123"));
        assert_eq!(client.secret.secret_file, Some(PathBuf::from("-")));
        assert_eq!(client.target, "http://localhost:8080");
        assert_eq!(client.host_header.as_deref(), Some("rewrite"));
        assert!(client.log.verbose && !client.log.quiet);
    }

    #[test]
    fn addresses_to_bind_add_up() {
        let line = "gesher server --bind 127.0.0.1 --bind ::1,10.0.0.1";
        let Command::Server(server) = Args::read(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!(server.bind, ["127.0.0.1", "::1", "10.0.0.1"]);
    }

    #[test]
    fn contradictions_and_unknown_flags_are_wrong_usage() {
        for line in [
            "gesher",
            "gesher serve",
            "gesher server --prot 1",
            "gesher server --port 65536",
            "gesher server --log-format xml",
            "gesher server -v -q",
            "gesher client --secret a --secret-file b",
            "gesher server --runtime async",
            "gesher demo --twice",
        ] {
            assert_eq!(Args::read(line.split(' ')).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        let args = Args::read(["gesher", "client", "--secret", "hunter22hunter22"]).unwrap();
        assert!(!format!("{args:?}").contains("hunter22"));
    }

    #[test]
    fn a_size_is_a_number_with_a_unit_or_none() {
        for (typed, bytes) in
            [("0", 0), ("65536", 65_536), ("64K", 65_536), ("10m", 10 << 20), ("2G", 2 << 30)]
        {
            assert_eq!(size(typed), Ok(bytes), "{typed}");
        }
        for typed in ["", "K", "1T", "+1", "-1K", "1.5M", "64 K", "99999999999G", "é"] {
            assert!(size(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn a_time_span_is_not_nothing() {
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        for typed in ["", "0s", "10", "soon"] {
            assert!(time(typed).is_err(), "{typed}");
        }
    }
}
