//! What people read, at their first try and when something is wrong; and the log as programs read it.

use std::time::Instant;

use serde_json::Value;

use crate::app::{app, app_at, standard};
use crate::gesher::{Server, Tunnel, client, joined};
use crate::outside::{Folder, nginx, own_address};
use crate::process::Process;
use crate::visitor::get;

/// The first line in which a connector says that it has no link, without its time and how long it waits.
fn complaint(client: &Process) -> String {
    let line = client.line("warning: ");
    let (_, text) = line.split_once("warning: ").unwrap();
    let (before, after) = text.split_once(" (next try in ").unwrap_or((text, ""));
    format!("{before}{}", after.split_once(')').map_or("", |(_, after)| after))
}

#[test]
fn without_a_gateway_a_connector_says_so_and_waits_for_it() {
    let address = own_address();
    let pin = "KZ7QM3XW9TRN";
    let client = Process::start("client", &mut client(address, pin, "1", ""));
    assert_eq!(
        complaint(&client),
        format!("nothing listens at http://{address}: is `gesher server` running there?")
    );
    let _server = Server::at(address, &format!("--pin {pin}"));
    client.line("requests go to the app from now on");
    // The same trouble again and again is one line.
    assert_eq!(client.text().matches("nothing listens").count(), 1, "{}", client.text());
}

#[test]
fn a_proxy_in_front_of_the_gateway_must_pass_the_upgrade_on_and_is_told_so() {
    let (folder, server) = (Folder::new(), Server::start());
    let [without, with, site] = [(); 3].map(|()| own_address());
    let gateway = server.address;
    let http = format!(
        "server {{ listen {without}; location / {{ proxy_pass http://{gateway}; }} }}
         server {{ listen {with}; location / {{
           proxy_pass http://{gateway}; proxy_http_version 1.1; proxy_buffering off;
           proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
         }} }}
         server {{ listen {site}; location / {{ return 404; }} }}"
    );
    let Some(_nginx) = nginx(&folder, &http) else { return };

    let dropped = Process::start("client", &mut client(without, &server.pin, "1", ""));
    let said = complaint(&dropped);
    let expected = format!("no WebSocket upgrade reached the gateway at http://{without}: ");
    assert!(said.starts_with(&expected) && said.contains("proxy_http_version 1.1"), "{said}");
    server.process.line("a join from 127.0.0.1 came without its WebSocket upgrade: ");

    let not_a_gateway = Process::start("client", &mut client(site, &server.pin, "1", ""));
    assert_eq!(
        complaint(&not_a_gateway),
        format!(
            "what answers at http://{site} is not a gateway: it said 404: is --gateway right, and is `gesher server` \
             what runs there?"
        )
    );

    // With the lines that the message names all of it works: the link and the visitor both come through nginx.
    let _passed = joined(&mut client(with, &server.pin, format!("http://{}", app(standard)), ""));
    assert_eq!(get(with, "/").unwrap(), (200, "hello\n".into()));
}

#[test]
fn an_app_that_is_down_is_a_502_at_once_and_is_served_when_it_is_back() {
    let address = own_address();
    let tunnel = Tunnel::to(format!("http://{address}"));
    let start = Instant::now();
    let (status, body) = get(tunnel.address(), "/secret-path").unwrap();
    assert_eq!(status, 502);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    // The visitor learns an id that the log has, and nothing of addresses.
    let line = tunnel.server.process.line("GET /secret-path 502 ");
    let (_, id) = line.trim_end_matches(')').split_once("(id ").unwrap();
    assert!(body.contains(id), "{body} {line}");
    assert!(!body.contains("127."), "{body}");
    tunnel.client.line(&format!("the app at {address} cannot be reached: "));
    app_at(address, standard);
    assert_eq!(get(tunnel.address(), "/").unwrap(), (200, "hello\n".into()));
}

#[test]
fn without_a_connector_a_visitor_is_told_to_come_back() {
    let server = Server::start();
    let answer = crate::visitor::ask(server.address, "/").unwrap().answer().unwrap();
    assert!(answer.head.field("retry-after").is_some());
    assert_eq!(answer.text().unwrap().0, 503);
}

#[test]
fn a_log_for_programs_is_one_json_object_a_line_and_has_queries_only_when_asked() {
    for (more, query) in [("--log-format json", None), ("--log-format json -v", Some("token=abc"))] {
        let server = Server::with(more);
        let client = server.join(format!("http://{}", app(standard)), more);
        get(server.address, "/path?token=abc").unwrap();
        get(server.address, "/garbage").unwrap();
        let line = server.process.lines("\"event\":\"request\"", 2).remove(0);
        let request: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(request["path"], "/path");
        assert_eq!((&request["status"], &request["bytes_out"]), (&200.into(), &6.into()));
        assert_eq!(request["query"].as_str(), query);

        for (process, kinds) in
            [(&server.process, &["joined", "request"][..]), (&client, &["connected", "bad_response"])]
        {
            process.line(kinds[1]);
            let text = process.text();
            let objects: Vec<Value> = text
                .lines()
                .filter(|line| line.starts_with('{'))
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            for kind in kinds {
                assert!(objects.iter().any(|object| object["event"] == *kind), "{kind}: {text}");
            }
            assert!(objects.iter().all(|object| object["time"].is_string() && object["level"].is_string()));
            assert!(query.is_some() || !text.contains("token=abc"), "{text}");
        }
    }
}

#[test]
fn a_log_for_people_has_a_line_a_request_without_its_query() {
    let tunnel = Tunnel::to(format!("http://{}", app(standard)));
    get(tunnel.address(), "/path?token=abc").unwrap();
    let line = tunnel.server.process.line("GET /path 200 6 B ");
    assert!(line.contains(" ms ") && !tunnel.server.process.text().contains("token=abc"), "{line}");
}
