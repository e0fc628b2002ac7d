//! Chromium in front of the tunnel, driven by its DevTools protocol: JSON messages over a WebSocket.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::{env, fs, thread};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, client::client_with_config, protocol::WebSocketConfig};

use crate::app::{Exchange, app};
use crate::gesher::{Tunnel, command};
use crate::outside::{Folder, program};
use crate::process::{PATIENCE, Process};

/// A page in a browser of its own.
struct Page {
    socket: WebSocket<TcpStream>,
    session: String,
    calls: u64,
    browser: Process,
    _folder: Folder,
}

impl Page {
    /// Opens a page in a new browser; none if there is no browser here.
    fn open(url: &str) -> Option<Self> {
        let mut command: Command = program("chromium")?;
        let folder = Folder::new();
        command.arg(format!("--user-data-dir={}", folder.path().display())).args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--no-proxy-server",
            "--hide-scrollbars",
            "--window-size=1280,1100",
            "--remote-debugging-port=0",
            "about:blank",
        ]);
        let browser = Process::start("chromium", &mut command);
        let line = browser.line("DevTools listening on ws://");
        let (_, devtools) = line.split_once(" on ").unwrap();
        let stream = TcpStream::connect(devtools.split('/').nth(2).unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        let (socket, _) = client_with_config(devtools.trim(), stream, Some(config)).unwrap();
        let mut page = Self { socket, session: String::new(), calls: 0, browser, _folder: folder };
        let target = page.call("Target.createTarget", json!({ "url": url }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        page.session = page.call("Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
        Some(page)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params).unwrap_or_else(|why| panic!("{method}: {why}"))
    }

    fn try_call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": params });
        if !self.session.is_empty() {
            call["sessionId"] = self.session.as_str().into();
        }
        self.socket.send(Message::text(call.to_string())).unwrap();
        loop {
            let message: Value =
                serde_json::from_str(self.socket.read().unwrap().to_text().unwrap()).unwrap();
            // What else comes are events.
            if message["id"] == self.calls {
                let (result, error) = (&message["result"], &message["error"]);
                return if error.is_null() { Ok(result.clone()) } else { Err(error.clone()) };
            }
        }
    }

    /// Waits until this expression is true in the page; what it was at last is in the failure.
    fn until(&mut self, expression: &str) {
        let code = format!(
            "new Promise(done => {{
               const until = Date.now() + 20000;
               const look = () => {{
                 let value;
                 try {{ value = {expression}; }} catch (why) {{ value = String(why); }}
                 if (value === true || Date.now() > until) done(value); else setTimeout(look, 20);
               }};
               look();
             }})"
        );
        let params = json!({ "expression": code, "awaitPromise": true, "returnByValue": true });
        // A page that is still to come throws away what runs in the one before it.
        let result = self.try_call("Runtime.evaluate", params.clone());
        let result = result.unwrap_or_else(|_| self.call("Runtime.evaluate", params));
        let value = &result["result"]["value"];
        assert!(*value == true, "{expression} is {value}; the page: {}", self.text());
    }

    fn run(&mut self, code: &str) {
        let result = self.call("Runtime.evaluate", json!({ "expression": code, "awaitPromise": true }));
        assert!(result["exceptionDetails"].is_null(), "{code}: {result}");
    }

    fn text(&mut self) -> String {
        let params = json!({ "expression": "document.body.innerText", "returnByValue": true });
        self.call("Runtime.evaluate", params)["result"]["value"].to_string()
    }

    fn screenshot(&mut self) -> Vec<u8> {
        let picture = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }
}

impl Drop for Page {
    /// Ends all processes of the browser, so that none of them writes to its folder when that is removed.
    fn drop(&mut self) {
        // A test that failed shows why; a second panic would end it at once.
        if !thread::panicking() {
            self.session.clear();
            self.call("Browser.close", json!({}));
            self.browser.end();
        }
    }
}

const PICTURE: &str = "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>";

/// A page with twenty pictures, fifteen scripts and fifteen styles, which counts what of them has loaded.
fn page_of_fifty(exchange: &mut Exchange) -> std::io::Result<()> {
    let path = exchange.path().to_owned();
    if path == "/" {
        let mut page = String::from("<!doctype html><script>var loaded = 0, failed = 0;</script>\n");
        let outcome = "onload=loaded++ onerror=failed++";
        for number in 0..20 {
            let _ = writeln!(page, "<img src=picture/{number} {outcome}>");
        }
        for number in 0..15 {
            let _ = writeln!(page, "<script src=script/{number} {outcome}></script>");
            let _ = writeln!(page, "<link rel=stylesheet href=style/{number} {outcome}>");
        }
        return exchange.respond("200 OK", "Content-Type: text/html\r\n", page.as_bytes());
    }
    let number = path.rsplit('/').next().unwrap();
    let (kind, content) = match path.split('/').nth(1).unwrap() {
        "picture" => ("image/svg+xml", PICTURE.to_owned()),
        "script" => ("text/javascript", format!("window.script{number} = '{}';", "x".repeat(50_000))),
        "style" => ("text/css", format!("body {{ --style-{number}: {number}; }}")),
        _ => return exchange.respond("404 Not Found", "", b""),
    };
    exchange.respond("200 OK", &format!("Content-Type: {kind}\r\n"), content.as_bytes())
}

#[test]
fn a_browser_loads_a_page_of_fifty_parts() {
    let tunnel = Tunnel::to(format!("http://{}", app(page_of_fifty)));
    let Some(mut page) = Page::open(&tunnel.url("/")) else { return };
    page.until("document.readyState == 'complete' && (loaded + failed == 50 || `${loaded} loaded, ${failed} failed`)");
    page.until("failed == 0 || failed");
    page.until(
        "[...Array(15).keys()].every(n => window[`script${n}`].length == 50000
           && getComputedStyle(document.body).getPropertyValue(`--style-${n}`).trim() == n)",
    );
}

/// With `GESHER_SCREENSHOT=FILE` it leaves a picture of the page.
#[test]
fn the_demo_shows_in_a_browser_what_it_promises() {
    let demo = Process::start("demo", &mut command("demo"));
    let line = demo.line("Open http://");
    let url = line.split_whitespace().nth(1).unwrap().to_owned();
    demo.lines("requests go to the app from now on", 2);
    let Some(mut page) = Page::open(&url) else { return };

    page.until("document.readyState == 'complete' && typeof socket == 'object' && socket.readyState == 1");
    page.until("parseInt($('events-count').textContent) >= 2 || $('events-count').textContent");
    page.until("$('events-state').textContent.startsWith('open, from app')");
    page.until(
        "$('head-text').textContent.includes('X-Forwarded-For: 127.0.0.1') || $('head-text').textContent",
    );

    page.run("$('ws-form').requestSubmit()");
    page.until("$('ws-log').textContent.includes('← Is anybody there?') || $('ws-log').textContent");
    page.run("$('ws-bulk').click()");
    page.until("$('ws-log').textContent.includes('← 1048576 bytes') || $('ws-log').textContent");

    page.run("$('spread-go').click()");
    page.until("/^App 1 answered [1-9], app 2 answered [1-9]/.test($('spread-result').textContent)");
    page.run("document.querySelector('[data-bytes=\"16777216\"]').click()");
    page.until("$('down-result').textContent.startsWith('16777216 bytes, all of them right')");
    page.run(
        "(() => { const files = new DataTransfer();
           files.items.add(new File(['abc'], 'abc'));
           $('up-file').files = files.files; $('up-form').requestSubmit(); })()",
    );
    page.until(
        "$('up-result').textContent.endsWith('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')",
    );
    if let Some(file) = env::var_os("GESHER_SCREENSHOT") {
        fs::write(file, page.screenshot()).unwrap();
    }
}
