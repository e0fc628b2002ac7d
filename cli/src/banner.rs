//! What a person reads first, on standard output: where it runs, and what to type on the other machine.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use gesher_core::config::{GatewayUrl, TargetUrl};
use gesher_core::http1::hop::HostRule;

/// The gateway's: never the secret. Programs read the PIN from the line `PIN: ABC123`.
pub(crate) fn server(pin: &str, listening: &[SocketAddr], everywhere: bool) -> String {
    let port = listening.first().map_or(0, SocketAddr::port);
    let mut text = String::from("Gesher gateway\n");
    if everywhere {
        let _ = writeln!(text, "  Port: {port}, on all addresses");
    } else {
        let addresses: Vec<String> = listening.iter().map(SocketAddr::to_string).collect();
        let _ = writeln!(text, "  Port: {port}, on {}", addresses.join(" and "));
    }
    let host = match listening {
        [only] if !only.ip().is_unspecified() => only.to_string(),
        _ => format!("<this host>:{port}"),
    };
    let _ = writeln!(text, "  PIN: {pin}");
    let _ = writeln!(text, "\nBeside the app, with the same secret in GESHER_SECRET or --secret-file, run");
    let _ = writeln!(text, "  gesher client --gateway http://{host} --pin {pin}");
    let _ = writeln!(text, "\nCtrl-C lets what is open finish; a second one ends at once.");
    text
}

/// The connector's, with what the app is told that it is called, and what else it could be.
pub(crate) fn client(gateway: &GatewayUrl, target: &TargetUrl, rule: &HostRule) -> String {
    let own = target.authority();
    let preserve = "--host-header preserve: the visitor's name";
    let told = match rule {
        HostRule::Preserve => format!("told the visitor's name; --host-header rewrite: {own}"),
        HostRule::Rewrite => format!("told that it is {own}; {preserve}"),
        HostRule::RewriteAll => format!("told that it is {own} and nothing else; {preserve}"),
        HostRule::Fixed(name) => format!("told that it is {name}; {preserve}"),
    };
    format!(
        "Gesher connector\n  Gateway: {gateway}\n  App: {target} ({told})\n\n\
         Ctrl-C lets what is open finish; a second one ends at once.\n"
    )
}

/// Writes it at once; a standard output that is closed stops nothing.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_pin_in_the_output_is_the_pin() {
        let text = server("ABC123", &addresses(&["0.0.0.0:8000"]), true);
        let after = text.split_once("PIN").unwrap().1;
        assert!(after.starts_with(": ABC123\n"), "{text}");
    }

    #[test]
    fn a_connector_says_what_the_app_is_told_that_it_is_called() {
        let gateway = GatewayUrl::parse("http://gateway:8000").unwrap();
        for (target, rule, line) in [
            (
                "4873",
                "rewrite",
                "App: http://localhost:4873 (told that it is localhost:4873; --host-header preserve: the visitor's name)",
            ),
            (
                "4873",
                "rewrite-all",
                "App: http://localhost:4873 (told that it is localhost:4873 and nothing else; --host-header preserve: the \
                 visitor's name)",
            ),
            (
                "unix:/run/app.sock",
                "preserve",
                "App: unix:/run/app.sock (told the visitor's name; --host-header rewrite: localhost)",
            ),
            (
                "4873",
                "shop.example",
                "App: http://localhost:4873 (told that it is shop.example; --host-header preserve: the visitor's name)",
            ),
        ] {
            let (target, rule) = (TargetUrl::parse(target).unwrap(), HostRule::parse(rule).unwrap());
            let text = client(&gateway, &target, &rule);
            assert!(text.contains(&format!("\n  {line}\n")), "{text}");
        }
    }

    #[test]
    fn the_line_to_run_names_an_address_where_there_is_just_one() {
        for (listening, everywhere, host) in [
            (&["[::]:8000", "0.0.0.0:8000"][..], true, "<this host>:8000"),
            (&["0.0.0.0:9000"], false, "<this host>:9000"),
            (&["127.0.0.1:8000"], false, "127.0.0.1:8000"),
            (&["[::1]:8000"], false, "[::1]:8000"),
            (&["10.0.0.1:8000", "10.0.0.2:8000"], false, "<this host>:8000"),
        ] {
            let text = server("ABC123", &addresses(listening), everywhere);
            let line = format!("\n  gesher client --gateway http://{host} --pin ABC123\n");
            assert!(text.contains(&line), "{text}");
        }
    }
}
