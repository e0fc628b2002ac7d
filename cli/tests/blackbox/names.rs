//! One app under two names: what apps compare, and WebDAV, whose requests name resources.

use std::fs;
use std::process::Command;

use crate::app::app;
use crate::gesher::Tunnel;
use crate::outside::{Folder, curl, nginx, own_address, program};
use crate::process::Process;

#[test]
fn a_connector_says_by_which_name_its_app_is_called_and_where_that_is_refused() {
    let address = app(|exchange| {
        let blocked = b"Blocked request. This host (\"shop.test\") is not allowed.";
        exchange.respond("403 Forbidden", "Content-Type: text/plain\r\n", blocked)
    });
    let tunnel = Tunnel::to(format!("http://{address} --host-header preserve"));
    tunnel
        .client
        .line(&format!("App: http://{address} (told the visitor's name; --host-header rewrite: {address})"));
    for _ in 0..2 {
        assert_eq!(curl(&["-o", "/dev/null", "-w", "%{http_code}", &tunnel.url("/")]), "403");
    }
    tunnel.client.line("Vite; --host-header is preserve): try --host-header rewrite");
    assert_eq!(tunnel.client.text().matches("--host-header is preserve").count(), 1, "it is said once");
}

/// An app that compares names as Rack, Rails and Next.js do: its own is X-Forwarded-Host before Host.
#[test]
fn an_app_that_compares_its_names_takes_forms_with_every_rule() {
    if program("curl").is_none() {
        return;
    }
    let address = app(|exchange| {
        let field = |name| exchange.head.field(name);
        let own = format!(
            "{}://{}",
            field("x-forwarded-proto").unwrap_or("http"),
            field("x-forwarded-host").or(field("host")).unwrap_or_default()
        );
        let status = if field("origin").is_none_or(|origin| origin == own) { "200 OK" } else { "422 x" };
        exchange.respond(status, "", own.as_bytes())
    });
    for (rule, own) in [
        ("rewrite", format!("http://{address}")),
        ("rewrite-all", format!("http://{address}")),
        ("preserve", "http://shop.test".to_owned()),
    ] {
        let tunnel = Tunnel::to(format!("http://{address} --host-header {rule}"));
        let sent =
            ["-H", "Host: shop.test", "-H", "Origin: http://shop.test", "-w", " %{http_code}", "-d", "a=b"];
        assert_eq!(curl(&[&sent[..], &[&tunnel.url("/")]].concat()), format!("{own} 200"), "{rule}");
    }
}

#[test]
fn nginx_moves_and_copies_what_visitors_name_by_their_own_name() {
    if program("curl").is_none() {
        return;
    }
    let (folder, address) = (Folder::new(), own_address());
    folder.write("www/a.txt", "Shalom");
    let root = folder.path().join("www");
    let site = format!(
        "server {{ listen {address}; root {}; dav_methods PUT DELETE MKCOL COPY MOVE; }}",
        root.display()
    );
    let Some(_nginx) = nginx(&folder, &site) else { return };
    let move_to = |at: &str, method: &str, to: &str| {
        let (url, destination) = (format!("{at}/a.txt"), format!("Destination: {to}"));
        curl(&["-o", "/dev/null", "-w", "%{http_code}", "-X", method, "-H", &destination, &url])
    };
    let (direct, tunnel) = (format!("http://{address}"), Tunnel::to(format!("http://{address}")));
    assert_eq!(
        move_to(&direct, "COPY", "http://shop.test/b.txt"),
        "400",
        "what nginx itself says of another name"
    );
    assert_eq!(move_to(&tunnel.url(""), "COPY", "http://elsewhere.test/b.txt"), "400");
    assert_eq!(move_to(&tunnel.url(""), "COPY", &tunnel.url("/b.txt")), "204");
    assert_eq!(move_to(&tunnel.url(""), "MOVE", &tunnel.url("/c.txt")), "204");
    let read = |name| fs::read_to_string(root.join(name)).unwrap_or_default();
    assert_eq!([read("a.txt"), read("b.txt"), read("c.txt")], ["", "Shalom", "Shalom"]);
}

#[test]
fn rclone_works_on_the_files_of_another_rclone() {
    let Some(mut serve) = program("rclone") else { return };
    let (folder, address) = (Folder::new(), own_address());
    let (files, config) = (folder.path().join("files"), folder.write("rclone.conf", ""));
    folder.write("files/a.txt", "Shalom");
    serve.args(["serve", "webdav", "--addr", &address.to_string()]).arg(&files).arg("--config").arg(&config);
    let server = Process::start("rclone", &mut serve);
    server.line("WebDav Server started on");
    let tunnel = Tunnel::to(format!("http://{address}"));
    let remote = format!(":webdav,url='{}':", tunnel.url("/"));
    let rclone = |arguments: &[&str]| {
        let arguments = arguments.iter().map(|argument| argument.replace("R:", &remote));
        let mut command = Command::new("rclone");
        command
            .arg("--config")
            .arg(&config)
            .args(["--retries", "1", "--low-level-retries", "1"])
            .args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    rclone(&["moveto", "R:a.txt", "R:b.txt"]);
    rclone(&["copyto", "R:b.txt", "R:c d.txt"]);
    rclone(&["mkdir", "R:folder"]);
    rclone(&["moveto", "R:c d.txt", "R:folder/e.txt"]);
    assert_eq!(rclone(&["lsf", "-R", "R:"]), "b.txt\nfolder/\nfolder/e.txt\n");
    assert_eq!(fs::read_to_string(files.join("folder/e.txt")).unwrap(), "Shalom");
}
