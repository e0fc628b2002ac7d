//! What was typed, checked: whatever exists here can be used. The first setting that cannot is the failure, in one
//! line that says what to write instead; what can be used but should not is a warning.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gesher_core::config::{ConnectorConfig, GatewayConfig, GatewayUrl, TargetUrl};
use gesher_core::http1::hop::HostRule;
use gesher_core::hub::Seed;
use gesher_core::limits::{PIN_CHARS_GOOD, SECRET_BYTES_GOOD};
use gesher_core::secret::{Keys, Pin, Secret};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

use crate::args::{ClientArgs, SecretArgs, ServerArgs};
use crate::exit::Failure;
use crate::runtime;
use crate::secret_file;

/// What `gesher server` runs with.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) config: GatewayConfig,
    pub(crate) pin: String,
    pub(crate) port: u16,
    /// Where to listen; everywhere if empty.
    pub(crate) bind: Vec<IpAddr>,
    pub(crate) drain: Duration,
    pub(crate) warnings: Vec<String>,
}

impl Server {
    /// Checks what was typed; draws a PIN if none was. Deriving the keys takes some 50 ms of CPU.
    pub(crate) fn check(args: ServerArgs) -> Result<Self, Failure> {
        let mut warnings = Vec::new();
        let secret = secret(args.secret, &mut warnings)?;
        let pin = match args.pin {
            Some(typed) => fixed_pin(&typed, &mut warnings)?,
            None => Pin::random(&mut random()?),
        };
        let bind = args.bind.iter().map(|typed| address(typed)).collect::<Result<_, _>>()?;
        let config = GatewayConfig::new(Keys::derive(&secret, &pin))
            .body_timeout(args.body_timeout)
            .response_timeout(args.response_timeout)
            .send_timeout(args.send_timeout)
            .drain(args.drain)
            .connectors_max(args.max_connectors)
            .map_err(|why| Failure::usage(format_args!("--max-connectors: {why}")))?
            .memory(memory(args.memory))
            .map_err(|why| Failure::usage(format_args!("--memory: {why}")))?;
        let config = match args.max_body {
            Some(bytes) => config.body_max(bytes),
            None => config,
        };
        Ok(Self { config, pin: pin.as_str().to_owned(), port: args.port, bind, drain: args.drain, warnings })
    }

    /// The addresses to bind one by one; none means everywhere.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.bind.iter().map(|ip| SocketAddr::new(*ip, self.port))
    }
}

/// What `gesher client` runs with.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) config: ConnectorConfig,
    pub(crate) gateway: GatewayUrl,
    pub(crate) target: TargetUrl,
    pub(crate) drain: Duration,
    pub(crate) warnings: Vec<String>,
}

impl Client {
    /// Checks what was typed. Deriving the keys takes some 50 ms of CPU.
    pub(crate) fn check(args: ClientArgs) -> Result<Self, Failure> {
        let mut warnings = Vec::new();
        let gateway = args.gateway.ok_or_else(|| {
            Failure::usage("no gateway given: --gateway http://HOST:8000, where `gesher server` runs")
        })?;
        let gateway =
            GatewayUrl::parse(&gateway).map_err(|why| Failure::usage(format_args!("--gateway: {why}")))?;
        let target =
            TargetUrl::parse(&args.target).map_err(|why| Failure::usage(format_args!("--target: {why}")))?;
        let secret = secret(args.secret, &mut warnings)?;
        let pin = args.pin.ok_or_else(|| {
            Failure::usage(
                "no PIN given: `gesher server` prints it at its start: give it with --pin or GESHER_PIN",
            )
        })?;
        let pin = Pin::parse(&pin).map_err(|why| Failure::usage(format_args!("--pin: {why}")))?;
        let host_rule = args.host_header.as_deref().map(host_rule).transpose()?;
        let name = args.name.unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned());

        let config = ConnectorConfig::new(Keys::derive(&secret, &pin), gateway.clone(), target.clone());
        let config = config
            .name(&name)
            .drain(args.drain)
            .watches_peers(args.log.verbose)
            .memory(memory(args.memory))
            .map_err(|why| Failure::usage(format_args!("--memory: {why}")))?;
        let config = match host_rule {
            Some(rule) => config.host_rule(rule),
            None => config,
        };
        Ok(Self { config, gateway, target, drain: args.drain, warnings })
    }
}

/// More than this machine can address is as much as it can.
fn memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A generator of secrets and PINs, seeded by the operating system.
pub(crate) fn random() -> Result<ChaCha20Rng, Failure> {
    Ok(ChaCha20Rng::from_seed(*seed()?.bytes()))
}

/// 32 random bytes from the operating system.
pub(crate) fn seed() -> Result<Seed, Failure> {
    runtime::seed()
        .map_err(|why| Failure::failed(format_args!("the operating system gives no random bytes: {why}")))
}

fn secret(args: SecretArgs, warnings: &mut Vec<String>) -> Result<Secret, Failure> {
    let mut bytes = match (args.secret, args.secret_file) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage(
                "GESHER_SECRET and GESHER_SECRET_FILE are both set: unset one of them",
            ));
        }
        (Some(typed), None) => Zeroizing::new(typed.into_bytes()),
        (None, Some(path)) => {
            let file = secret_file::read(&path)?;
            warnings.extend(file.warning);
            file.bytes
        }
        (None, None) => {
            return Err(Failure::usage(
                "no secret given: set GESHER_SECRET, or use --secret-file FILE; `gesher keygen` makes a good one",
            ));
        }
    };
    let secret = Secret::new(std::mem::take(&mut *bytes)).map_err(Failure::usage)?;
    if secret.is_short() {
        warnings.push(format!(
            "the secret has fewer than {SECRET_BYTES_GOOD} characters and can be guessed: `gesher keygen` makes a good one"
        ));
    }
    Ok(secret)
}

fn fixed_pin(typed: &str, warnings: &mut Vec<String>) -> Result<Pin, Failure> {
    let pin = Pin::parse(typed).map_err(|why| Failure::usage(format_args!("--pin: {why}")))?;
    if pin.is_short() {
        warnings.push(format!(
            "a PIN that stays the same should have at least {PIN_CHARS_GOOD} characters: use a longer one, or none, for a \
             new one at every start"
        ));
    }
    Ok(pin)
}

fn address(typed: &str) -> Result<IpAddr, Failure> {
    let bare = typed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(typed);
    bare.parse().map_err(|_| {
        Failure::usage(format_args!(
            "--bind {}: not an IP address: write one like 127.0.0.1 or ::1, and the port with --port",
            typed.escape_debug()
        ))
    })
}

fn host_rule(typed: &str) -> Result<HostRule, Failure> {
    HostRule::parse(typed).ok_or_else(|| {
        Failure::usage(format_args!(
            "--host-header '{}': not a host: write preserve, rewrite, rewrite-all, or HOST[:PORT]",
            typed.escape_debug()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "capture")]
    use crate::args::CaptureArgs;
    use crate::args::{ColorWhen, Hidden, LogArgs, LogFormat};
    use crate::exit::Exit;
    use crate::runtime::RuntimeArgs;
    use std::ffi::OsString;

    const LOG: LogArgs =
        LogArgs { log_format: LogFormat::Human, color: ColorWhen::Never, verbose: false, quiet: false };

    fn secret_args(secret: Option<&str>) -> SecretArgs {
        SecretArgs { secret: secret.map(|text| Hidden::from(OsString::from(text))), secret_file: None }
    }

    fn server_args(secret: Option<&str>, pin: Option<&str>, bind: &[&str]) -> ServerArgs {
        ServerArgs {
            secret: secret_args(secret),
            port: 8000,
            bind: bind.iter().map(|addr| addr.to_string()).collect(),
            pin: pin.map(str::to_owned),
            max_connectors: 1000,
            max_body: None,
            body_timeout: Duration::from_secs(60),
            response_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(300),
            memory: 256 << 20,
            drain: Duration::from_secs(10),
            runtime: RuntimeArgs::default(),
            #[cfg(feature = "capture")]
            capture: CaptureArgs { capture: None, capture_max: 1 << 30 },
            log: LOG,
        }
    }

    fn client_args() -> ClientArgs {
        ClientArgs {
            gateway: Some("http://gateway.example:8000".into()),
            secret: secret_args(Some("a secret of some length")),
            pin: Some("ABC123".into()),
            target: "3000".into(),
            name: None,
            host_header: None,
            memory: 64 << 20,
            drain: Duration::from_secs(10),
            runtime: RuntimeArgs::default(),
            #[cfg(feature = "capture")]
            capture: CaptureArgs { capture: None, capture_max: 1 << 30 },
            log: LOG,
        }
    }

    #[test]
    fn a_server_without_a_pin_draws_one() {
        let first = Server::check(server_args(Some("a secret of some length"), None, &[])).unwrap();
        let second = Server::check(server_args(Some("a secret of some length"), None, &[])).unwrap();
        assert_eq!(first.pin.len(), 6);
        assert_ne!(first.pin, second.pin);
        assert!(first.warnings.is_empty(), "{:?}", first.warnings);
        assert_eq!(first.addresses().count(), 0);
    }

    #[test]
    fn a_short_secret_and_a_short_fixed_pin_get_a_warning_each() {
        let server = Server::check(server_args(Some("hunter22"), Some("ABC123"), &[])).unwrap();
        assert_eq!(server.warnings.len(), 2);
        assert!(server.warnings[0].contains("gesher keygen"), "{:?}", server.warnings);
        assert!(server.warnings[1].contains("10 characters"), "{:?}", server.warnings);
    }

    #[test]
    fn no_secret_is_wrong_usage_that_names_every_way_to_give_one() {
        let failure = Server::check(server_args(None, None, &[])).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        for way in ["GESHER_SECRET", "--secret-file", "gesher keygen"] {
            assert!(failure.to_string().contains(way), "{failure}");
        }
    }

    #[test]
    fn addresses_to_bind_are_ip_addresses() {
        let bind = ["127.0.0.1", "::1", "[::1]"];
        let server = Server::check(server_args(Some("a secret of some length"), None, &bind)).unwrap();
        let addresses: Vec<String> = server.addresses().map(|address| address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:8000", "[::1]:8000", "[::1]:8000"]);
        for typed in ["localhost", "127.0.0.1:9000", "", "1.2.3"] {
            let failure = Server::check(server_args(Some("s"), None, &[typed])).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{typed}");
        }
    }

    #[test]
    fn a_client_with_all_it_needs_is_ready() {
        let client = Client::check(client_args()).unwrap();
        assert_eq!(client.gateway.to_string(), "http://gateway.example:8000");
        assert_eq!(client.target.to_string(), "http://localhost:3000");
        assert!(client.warnings.is_empty(), "{:?}", client.warnings);
    }

    #[test]
    fn what_a_client_cannot_use_is_wrong_usage_that_names_the_flag() {
        type Spoil = fn(&mut ClientArgs);
        let spoils: [(Spoil, &str); 6] = [
            (|args| args.gateway = None, "--gateway"),
            (|args| args.gateway = Some("ftp://a".into()), "--gateway"),
            (|args| args.target = "http://a/path".into(), "--target"),
            (|args| args.pin = None, "--pin"),
            (|args| args.host_header = Some(String::new()), "--host-header"),
            (|args| args.secret.secret = None, "--secret-file"),
        ];
        for (spoil, flag) in spoils {
            let mut args = client_args();
            spoil(&mut args);
            let failure = Client::check(args).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{failure}");
            assert!(failure.to_string().contains(flag), "{failure}");
            assert!(!failure.to_string().contains('\n'), "{failure}");
        }
    }
}
