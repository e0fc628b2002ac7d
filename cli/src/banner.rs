//! What a person reads first, on standard output: where it runs, and what to type on the other machine.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use gesher_core::config::{GatewayUrl, TargetUrl};

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

/// The connector's.
pub(crate) fn client(gateway: &GatewayUrl, target: &TargetUrl) -> String {
    format!(
        "Gesher connector\n  Gateway: {gateway}\n  App: {target}\n\n\
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
