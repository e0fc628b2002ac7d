//! Real web servers behind the tunnel, curl in front of it.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::app::{app, fingerprint, noise, standard};
use crate::gesher::{Server, Tunnel};
use crate::outside::{Folder, curl, nginx, own_address, program, python_app, python_site};
use crate::process::PATIENCE;
use crate::visitor::ask;
use crate::wire::Wire;

/// Status, and the fields named, in the order in which curl is asked for them.
fn head(url: &str, more: &[&str], fields: &[&str]) -> String {
    let wanted: Vec<String> = fields.iter().map(|field| format!("%header{{{field}}}")).collect();
    let format = format!("%{{http_code}} {}", wanted.join(" "));
    curl(&[&["-o", "/dev/null", "-w", &format, url], more].concat())
}

#[test]
fn a_python_site_of_http_1_0_is_served_whole() {
    if program("curl").is_none() {
        return;
    }
    let folder = Folder::new();
    folder.write("index.html", "<h1>Shalom</h1>\n");
    folder.write("large.bin", vec![b'x'; 3_000_000]);
    let Some((_site, address)) = python_site(&folder) else { return };
    let tunnel = Tunnel::to(format!("http://{address}"));

    assert_eq!(curl(&[&tunnel.url("/")]), "<h1>Shalom</h1>\n");
    assert_eq!(head(&tunnel.url("/large.bin"), &["-I"], &["content-length"]), "200 3000000");
    assert_eq!(curl(&[&tunnel.url("/large.bin")]).len(), 3_000_000);
    assert_eq!(head(&tunnel.url("/missing"), &[], &["content-type"]), "404 text/html;charset=utf-8");
    assert_eq!(head(&tunnel.url("/"), &["-X", "POST", "-d", "a=b"], &[]), "501 ");
    assert_eq!(curl(&["--http1.0", &tunnel.url("/")]), "<h1>Shalom</h1>\n");
    // Python closes after each answer; the visitor's connection stays.
    let (url, format) = (tunnel.url("/"), "%{num_connects} ");
    assert_eq!(curl(&["-o", "/dev/null", "-o", "/dev/null", "-w", format, &url, &url]), "1 0 ");
}

/// Python's server with keep-alive: it waits on one connection for the next request, and serves no other meanwhile.
const ONE_AT_A_TIME: &str = r#"
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"none"
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print("port", server.server_port)
server.serve_forever()
"#;

#[test]
fn a_server_that_serves_one_connection_at_a_time_keeps_nobody_waiting_for_an_idle_one() {
    let Some((_site, address)) = python_app(ONE_AT_A_TIME) else { return };
    // An idle connection is kept for 4 s: whoever waits for that gets a 504.
    let server = Server::with("--response-timeout 2s");
    let _client = server.join(format!("http://{address}"), "");
    let (mut first, mut second) = (Wire::to(server.address), Wire::to(server.address));
    let ok = "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 4\r\n\r\n";
    for _ in 0..3 {
        first.send("POST / HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 4\r\n\r\n");
        second.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
        first.send("body");
        first.expect("the first", &format!("{ok}body"));
        second.expect("the second", &format!("{ok}none"));
    }
}

#[test]
fn an_nginx_site_is_served_as_if_it_were_asked_directly() {
    if program("curl").is_none() {
        return;
    }
    let (folder, address) = (Folder::new(), own_address());
    let socket = folder.path().join("nginx.socket");
    folder.write("www/index.html", "<h1>Shalom</h1>\n");
    folder.write("www/digits", "0123456789");
    folder.write("www/text.txt", "compress me ".repeat(1000));
    let site = format!(
        "default_type text/plain; gzip on; gzip_min_length 100; gzip_proxied any; gzip_types text/plain;
         server {{
           listen {address}; listen unix:{socket};
           root {root};
           location = /cookies {{
             add_header Set-Cookie a=1; add_header Set-Cookie 'b=2; Path=/'; add_header Set-Cookie c=3; return 204;
           }}
           location = /moved {{ return 301 https://elsewhere.example/there?a=b; }}
           location = /nowhere {{ return 404 'nothing here\\n'; }}
           location = /host {{ return 200 '$host $http_x_forwarded_host'; }}
         }}",
        socket = socket.display(),
        root = folder.path().join("www").display()
    );
    let Some(_nginx) = nginx(&folder, &site) else { return };

    for target in [format!("http://{address}"), format!("unix:{}", socket.display())] {
        let tunnel = Tunnel::to(&target);
        let url = |path| tunnel.url(path);
        assert_eq!(curl(&[&url("/")]), "<h1>Shalom</h1>\n", "{target}");
        assert_eq!(head(&url("/"), &["-I"], &["content-length"]), "200 16");
        assert_eq!(curl(&["--http1.0", &url("/")]), "<h1>Shalom</h1>\n");
        assert_eq!(curl(&["-r", "2-5", "-w", " %{http_code}", &url("/digits")]), "2345 206");
        assert_eq!(head(&url("/digits"), &["-r", "20-"], &["content-range"]), "416 bytes */10");
        assert_eq!(curl(&["-w", "%{http_code}", &url("/nowhere")]), "nothing here\n404");
        assert_eq!(head(&url("/moved"), &[], &["location"]), "301 https://elsewhere.example/there?a=b");
        let cookies = curl(&["-i", &url("/cookies")]);
        let cookies: Vec<_> = cookies.lines().filter_map(|line| line.strip_prefix("Set-Cookie: ")).collect();
        assert_eq!(cookies, ["a=1", "b=2; Path=/", "c=3"]);
        let (first, second) = (url("/"), url("/digits"));
        assert_eq!(
            curl(&["-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} ", &first, &second]),
            "1 0 "
        );

        // The compressed bytes are nginx's own, and unpack to the file.
        let compressed = gzipped(tunnel.address());
        assert!(compressed.starts_with(&[0x1F, 0x8B]) && compressed.len() < 1000, "{}", compressed.len());
        assert!(compressed == gzipped(address));
        assert_eq!(curl(&["--compressed", &url("/text.txt")]), "compress me ".repeat(1000));
    }
}

/// `/text.txt` of a server as it comes.
fn gzipped(server: SocketAddr) -> Vec<u8> {
    let folder = Folder::new();
    let file = folder.path().join("body");
    let url = format!("http://{server}/text.txt");
    curl(&["-H", "Accept-Encoding: gzip", "-o", file.to_str().unwrap(), &url]);
    fs::read(file).unwrap()
}

#[test]
fn an_upload_of_unknown_length_arrives_whole() {
    let Some(mut curl) = program("curl") else { return };
    let tunnel = Tunnel::to(format!("http://{}", app(standard)));
    let mut child = curl
        .args(["-sS", "--noproxy", "*", "-T", "-", &tunnel.url("/upload")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    io::copy(&mut noise(5_000_000), child.stdin.as_mut().unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), fingerprint(&mut noise(5_000_000)).unwrap());
}

#[test]
fn an_early_answer_is_delivered_and_what_is_not_http_is_a_502() {
    if program("curl").is_none() {
        return;
    }
    let tunnel = Tunnel::to(format!("http://{}", app(standard)));
    // An answer before the body was read, to a client that asked and to one that just sends.
    for expect in ["Expect: 100-continue", "Expect:"] {
        let body = format!("@{}", env!("CARGO_BIN_EXE_gesher"));
        let (url, format) = (tunnel.url("/too-large"), "%{http_code}");
        assert_eq!(curl(&["--data-binary", &body, "-H", expect, "-w", format, &url]), "too large\n413");
    }
    assert_eq!(head(&tunnel.url("/garbage"), &[], &["cache-control"]), "502 no-store");
}

#[test]
fn a_body_that_breaks_off_is_cut_so_that_the_visitor_can_tell() {
    let (break_off, told) = channel::<()>();
    let told = Mutex::new(told);
    let address = app(move |exchange| {
        let framing = exchange.path().replace("/sized", "Content-Length: 100\r\n");
        exchange.start("200 OK", &framing.replace("/chunked", "Transfer-Encoding: chunked\r\n"))?;
        exchange.to.write_all(b"9\r\nonly this\r\n")?;
        told.lock().unwrap().recv_timeout(PATIENCE).map_err(io::Error::other)?;
        Err(io::ErrorKind::ConnectionAborted.into())
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    for path in ["/sized", "/chunked"] {
        let answer = ask(tunnel.address(), path).unwrap().answer().unwrap();
        assert_eq!(answer.head.status, 200);
        break_off.send(()).unwrap();
        assert!(answer.text().is_err(), "{path}");
        tunnel.server.process.line(&format!("GET {path} 200 "));
    }
    assert_eq!(tunnel.server.process.lines(": the app broke off (id ", 2).len(), 2);
}
