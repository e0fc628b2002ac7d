//! Everything in Gesher that decides, and nothing that waits: the gateway, the connector and the link between them as
//! state machines without sockets, threads, clocks, files or environment.
//!
//! ```text
//!             gateway process                                connector process
//! visitor ── GatewayConn ╌╌ GatewayHub ╌╌ GatewayConn ── ConnectorLink ╌╌ ConnectorHub ╌╌ TargetConn ── app
//!            (a visitor's)                (a link's)
//! ── a TCP connection     ╌╌ mail: exchanges and wakes
//! ```
//!
//! # What that means
//! A machine is told three things: these bytes came, this is the time, you have mail. It leaves three things behind:
//! bytes to send, wishes for its socket, and effects for others ([`machine::Machine`]). All else is the caller's: it
//! reads and writes, it reads the clocks, it draws one seed for each process. So the same input gives the same output,
//! whoever runs it: the runtime on real sockets, a test, a simulator.
//!
//! Effects are data, too ([`machine::Effects`]): *wake this port*, *dial that*, *this happened*. The core has no log;
//! the command line prints events, transcripts list them.
//!
//! # The loop
//! [`drive::Conn`] is a machine with its buffers. Whoever runs one does this until it is told to close:
//! ```text
//! todo = conn.advance()                 effects are delivered in here, by what implements Outside
//! todo.write      write conn.output(), then conn.wrote(count or an error)
//! todo.shutdown   shut the sending side, then conn.shut(done or an error)
//! todo.close      close or reset the socket, drop the Conn: the end
//! todo.again      let others run, then go on
//! todo.read       read, then conn.heard(bytes or an error)
//! nothing moved?  wait: readable, writable, woken, todo.wake_at
//! ```
//! Two rules make it safe. `advance` is level-triggered: calling it again with nothing changed changes nothing, and
//! waking early is harmless. And a wake is a sticky flag: who has mail posts it and then raises the flag, who runs a
//! machine lowers the flag and then calls `advance`, so that no wake-up is lost.
//!
//! A process begins with its hub, which implements [`machine::Process`]: a [`hub::GatewayHub`] makes a machine for each
//! connection that was accepted, a [`hub::ConnectorHub`] has a supervisor that dials everything itself.
//!
//! # A whole conversation
//! The feature `sim` adds the module `sim`: the same hubs and machines on made-up sockets, in virtual time. Here one
//! request goes through a gateway and a connector to an app and back. The link takes 20 ms each way; on the left are
//! virtual milliseconds. What crosses the link is shown opened: each line `record` is one sealed message.
//! ```
//! use gesher_core::sim::{Act, Sealing, World};
//!
//! let mut world = World::new("a request and its response", 7, 20, Sealing::FixedIv);
//! world.start_gateway(|config| config);
//! world.start_app("app", |_request| {
//!     vec![Act::send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")]
//! });
//! world.start_connector("office", "app", |config| config);
//! world.run_ms(200);
//!
//! let visitor = world.visit();
//! world.send(visitor, "GET /report HTTP/1.1\r\nHost: shop.example\r\n\r\n");
//! world.run_ms(100);
//! let answer = String::from_utf8(world.received(visitor)).unwrap();
//! assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"));
//!
//! world.drain("office");
//! world.run_ms(100);
//! let expected = r#"
//!    40    office      > gateway       GET /_connect_tunnel · join, signed, with a proof of the PIN
//!    60    gateway     | auth          accepted: in time, first use, proof right
//!    60    gateway     > office        101 · accept proof
//!    80    office      > gateway       record 153 B { HELLO office epoch 1 · PING }
//!   100    gateway     > office        record 153 B { HELLO id-1 · PONG · PING }
//!   100    gateway     | join          office is id-1
//!   120    office      > gateway       record 89 B { PONG }
//!   120    office      | join          joined as id-1
//!   200    visitor-1   > gateway       GET /report · host shop.example
//!   200    gateway     > office        record 329 B { REQUEST x1 of v1 GET /report, 6 fields, no body · END x1 }
//!   220    office      > app           GET /report · host shop.example
//!   220    app         > office        200 · content-length 5
//!   220    app         > office        5 B #2cf2
//!   220    office      > gateway       record 137 B { RESPONSE x1 200, 0 fields, 5 B · DATA x1 5 B #2cf2 · END x1 }
//!   240    gateway     > visitor-1     200 · content-length 5
//!   240    gateway     > visitor-1     5 B #2cf2
//!   240    gateway     | done          GET /report 200, 0 B in, 5 B out by office
//!   300    !                           office is asked to stop
//!   300    office      > gateway       record 105 B { GOAWAY 10000 ms "the connector stops" }
//!   300    office      > app           end
//!   320    gateway     > office        end
//!   340    office      > gateway       end
//!   360    gateway     | leave         office: goodbye
//! "#;
//! let transcript = world.transcript();
//! let (_title, lines) = transcript.split_once('\n').unwrap();
//! assert_eq!(lines.trim(), expected.trim());
//! ```
//!
//! # Where what is
//! | module | has |
//! | --- | --- |
//! | [`machine`], [`drive`], [`buf`], [`time`] | the contract, what keeps it, and what it is made of |
//! | [`config`], [`secret`], [`limits`] | what a process is told, its keys, and every bound with its number |
//! | [`hub`] | what the connections of one process share |
//! | `gateway`, `connector` | the machines, which hubs make; they are not public |
//! | [`http1`] | HTTP/1.1 as a careful intermediary speaks it |
//! | [`link`], [`seal`], [`websocket`], [`auth`] | the link protocol: joining, records, frames, streams |
//! | [`event`], [`fault`] | what happened, and whose fault it was |
//! | `capture` (feature `capture`) | what a process got, as a file, and the same machines run over it again |
//!
//! In the repository, `docs/architecture.md` says why it is built so, `docs/protocol.md` has the link protocol byte for
//! byte, and `docs/http.md` what becomes of every kind of request and response.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod auth;
pub mod buf;
#[cfg(feature = "capture")]
pub mod capture;
pub mod config;
mod connector;
pub mod drive;
pub mod event;
pub mod fault;
mod gateway;
pub mod http1;
pub mod hub;
pub mod limits;
pub mod link;
pub mod machine;
pub mod seal;
pub mod secret;
#[cfg(feature = "sim")]
pub mod sim;
pub mod time;
#[cfg(feature = "capture")]
mod transcript;
pub mod websocket;
