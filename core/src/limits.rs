//! Every bound of the core: its name with its unit, its number, and why that number.

use std::time::Duration;

use crate::time::UnixSecs;

// ---- HTTP (docs/http.md) -------------------------------------------------------------------------------------------

/// A request line; nginx and Apache take 8 KiB, and URLs that carry state are longer.
pub const REQUEST_LINE_BYTES_MAX: usize = 16 * 1024;
/// A head from a visitor or an app, with its lines' ends and the blank line.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Field lines in a head; browsers send some 20, proxies in front add as many.
pub const HEAD_FIELDS_MAX: usize = 200;
/// A head as it goes into a frame: what was received, and what an intermediary adds.
pub const LINK_HEAD_BYTES_MAX: usize = 80 * 1024;
/// Trailers of one message.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Fields that `Connection` may name in one head; real ones name two or three.
pub const CONNECTION_OPTIONS_MAX: usize = 32;
/// Extensions of one chunk; they carry nothing and are dropped.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 1024;
/// Informational responses to one request that are read from the app within one second; the rest waits. An app that tells
/// its progress by one for each 64 KiB of an upload may take 5 Gbit/s …
pub const INTERIM_RESPONSES_PER_SEC_MAX: u32 = 10_000;
/// … and their bytes: that many of 100 bytes, as such an app makes them.
pub const INTERIM_BYTES_PER_SEC_MAX: usize = 1_000_000;
/// A request head has this long to be complete.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a request body that we would take may rest before the final head (`--body-timeout`); nginx's number.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// A visitor that sends no more (FIN) and was sent nothing for this long counts as gone. Clients that half-close are rare
/// and ask for short things; those that leave are not, and their app goes on working until it hears of it.
pub const VISITOR_GONE: Duration = Duration::from_secs(2);
/// An idle keep-alive connection of a visitor closes after this; nginx's number.
pub const VISITOR_IDLE: Duration = Duration::from_secs(75);
/// A lingering connection reads and discards at most this long (nginx's number) …
pub const LINGER: Duration = Duration::from_secs(30);
/// … and goes on only while each stretch of this long …
pub const LINGER_STRETCH: Duration = Duration::from_secs(5);
/// … brings at least this much: 1 KiB/s.
pub const LINGER_STRETCH_BYTES_MIN: usize = 5 * 1024;
/// The rest of a message that has not come after this may wait for what came to be acknowledged.
pub const REST_WAIT: Duration = Duration::from_millis(1);
/// How long the app may neither take a request byte nor send one before its final head (`--response-timeout`).
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// A visitor that has taken nothing of what waits for it, or sent nothing of a body, for so long makes room where places
/// run out; no network of somebody who reads or sends rests longer than a lost packet or two.
pub const STALL: Duration = Duration::from_secs(5);
/// How long a visitor may take no byte of waiting output (`--send-timeout`).
pub const SEND_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// What is kept of a request's body so that another connector can have it, as far as there is memory for speed.
pub const KEPT_BODY_BYTES: usize = WINDOW_BYTES as usize;
/// Requests for which there is no room wait this long for it …
pub const WAIT_FOR_ROOM: Duration = Duration::from_secs(10);
/// … and at most so many at once; what each holds are its head and its connection.
pub const WAITING_MAX: usize = 10_000;
/// The first of those who wait looks this often, whether or not something ended that it was told of.
pub const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_millis(100);
/// That requests are turned away for want of room is said this often, with a count.
pub const NO_ROOM_SAID_EVERY: Duration = Duration::from_secs(10);
/// How often a request may pass one gateway before it is a loop (`Via`).
pub const VIA_OWN_MAX: usize = 4;

// ---- What an app's answers say of its name --------------------------------------------------------------------------

/// A 403 of text waits at the connector until this much of its body came, if the request said the visitor's name: before
/// the heading of Rails' *Blocked hosts* are 6.4 KB of style.
pub const NAME_PAGE_BYTES: usize = 16 * 1024;
/// It waits no longer than this.
pub const NAME_PAGE_TIME: Duration = Duration::from_secs(1);
/// So many bytes of another body are looked at for a hint.
pub const NAME_HINT_BYTES: usize = 4 * 1024;
/// So many responses that may refuse a name are looked into, and as many others: then whoever starts a connector has
/// seen the hints.
pub const NAME_HINT_LOOKS_MAX: u32 = 1000;

// ---- The connector's pool ------------------------------------------------------------------------------------------

/// An idle connection to the app is kept this long: Node closes its own after 5 s.
pub const TARGET_IDLE: Duration = Duration::from_secs(4);
/// A request that is not idempotent only goes out on a connection that was idle for less than this.
pub const TARGET_IDLE_UNSAFE: Duration = Duration::from_secs(1);
/// Once a new connection to the app has brought no byte for this long, idle ones are closed, and none is kept for longer:
/// the app may serve one at a time, and wait for the next request on one of those.
pub const TARGET_FIRST_BYTE: Duration = Duration::from_millis(250);
/// A connection that an app logged in is kept idle this long for its visitor: as long as the visitor's may be idle.
pub const TARGET_LOGIN_IDLE: Duration = VISITOR_IDLE;
/// Idle connections of this kind; the one that was idle longest makes room. Strangers can make an app offer a login,
/// and so many leave room for others.
pub const TARGET_LOGINS_MAX: usize = 1024;
/// A connection to the app has this long to open.
pub const TARGET_DIAL_TIME: Duration = Duration::from_secs(10);

/// Connections to the app that are opened at the same time: what comes meanwhile waits for one of them, or for one that
/// is free again.
pub const TARGET_DIALS_MAX: u32 = 128;
/// Of the connections that a runtime is good for, a connector keeps these for its links and its supervisor.
pub const CONNECTIONS_KEPT: usize = 8;

// ---- Joining -------------------------------------------------------------------------------------------------------

/// How far a join's time may be from the gateway's clock.
pub const CLOCK_SKEW_SECS_MAX: u64 = 30;
/// 2025-01-01T00:00:00Z: there was no Gesher before, so that a clock that says less is wrong. A small machine without a
/// clock of its own starts there, and takes the gateway's time whatever that is.
pub const CLOCK_EARLIEST: UnixSecs = UnixSecs(1_735_689_600);
/// A clock that says more takes the gateway's time only if the two differ by no more than this: what somebody in between
/// makes a connector sign for another time is good until then.
pub const CLOCK_TAUGHT_SECS_MAX: u64 = 24 * 60 * 60;
/// Signatures remembered at once; at one every 60 s from each of 1,000 connectors that is a thousand spare.
pub const REPLAY_ENTRIES_MAX: usize = 65_536;
/// Wrong proofs from one address …
pub const LOCKOUT_FAILURES: u32 = 5;
/// … within this time …
pub const LOCKOUT_WINDOW: Duration = Duration::from_secs(120);
/// … close joining to it for this long.
pub const LOCKOUT_TIME: Duration = Duration::from_secs(600);
/// Wrong proofs in all …
pub const GUESSES_MAX: usize = 60;
/// … within this time leave joining to the addresses that have proved the PIN. Whoever has the secret and addresses
/// without number then needs 17 years on average for a drawn PIN, and honest mistakes have room.
pub const GUESSES_WINDOW: Duration = Duration::from_secs(60);
/// Joins without a right signature that one address may have answered in one burst …
pub const JOIN_BURST: u32 = 10;
/// … and how long it takes until one more is.
pub const JOIN_REFILL: Duration = Duration::from_secs(6);
/// Addresses that a table of the above remembers.
pub const ADDRESSES_MAX: usize = 16_384;
/// Links that have not said HELLO yet, in all.
pub const LINKS_WITHOUT_HELLO_MAX: u32 = 64;
/// … and how long each has for it.
pub const HELLO_TIME: Duration = Duration::from_secs(5);
/// A connector waits this long for the gateway's connection, and again for its answer to a join.
pub const JOIN_TIME: Duration = Duration::from_secs(10);
/// Connectors joined at once (`--max-connectors`).
pub const CONNECTORS_MAX: usize = 1000;

/// The shortest wait before a connector dials again, give or take half of it …
pub const REDIAL_MIN: Duration = Duration::from_secs(1);
/// … for this long after it lost the gateway; then the wait grows …
pub const REDIAL_FAST_FOR: Duration = Duration::from_secs(5 * 60);
/// … up to this.
pub const REDIAL_MAX: Duration = Duration::from_secs(30);
/// How often a connector that waits looks whether the machine slept: then it dials at once.
pub const SLEEP_LOOK_EVERY: Duration = Duration::from_secs(2);
/// The wait after a refusal that only a person can mend.
pub const REDIAL_REFUSED: Duration = Duration::from_secs(60);
/// The wait after a wrong PIN: longer than [`LOCKOUT_WINDOW`], so that four connectors with yesterday's PIN do not close
/// joining to their address.
pub const REDIAL_PIN: Duration = Duration::from_secs(150);

// ---- Links ---------------------------------------------------------------------------------------------------------

/// The plaintext of one record.
pub const RECORD_PLAIN_BYTES_MAX: usize = 131_072;
/// What a sender fills a record to: Fernet is fastest near here, and a small frame waits for no more than this.
pub const RECORD_FILL_BYTES: usize = 16 * 1024;
/// One WebSocket message of a link over all its fragments.
pub const MESSAGE_BYTES_MAX: usize = 131_200;
/// Fragments of one message.
pub const FRAGMENTS_MAX: u32 = 64;
/// Body bytes in one DATA frame.
pub const DATA_BYTES_MAX: usize = 16_384;
/// A name, an id or an address in a frame.
pub const NAME_BYTES_MAX: usize = 64;
/// One part of PEERS: the rest of a record stays for what cannot wait.
pub const PEERS_PART_BYTES_MAX: usize = 32 * 1024;
/// Connectors that a list from a gateway may name: room for a gateway with another `--max-connectors`.
pub const PEERS_MAX: usize = 4 * CONNECTORS_MAX;
/// The payload of one STATS: room for the figures of some 1,600 connectors.
pub const STATS_BYTES_MAX: usize = 64 * 1024;
/// What a REQUEST says beside its head: room for what later versions add.
pub const REQUEST_NOTES_BYTES_MAX: usize = 1024;
/// The reason in a RESET or a GOAWAY.
pub const REASON_BYTES_MAX: usize = 256;
/// Streams open at once on a link, as HELLO says it: as many as a host has ports towards one app. Memory, and the
/// connections that a runtime carries, end it before.
pub const STREAMS_MAX: u32 = 65_536;
/// The last stream a link opens before it says GOAWAY.
pub const STREAM_ID_MAX: u32 = 1 << 31;
/// The first window of a stream, each direction, while a process has set aside less than a quarter of its memory …
pub const WINDOW_BYTES: u32 = 64 * 1024;
/// … and from then on, and always of an upgrade: most of these rest, and the window of one that does not soon widens.
pub const WINDOW_BYTES_MIN: u32 = 4 * 1024;
/// Bodies of requests begin with a window of [`WINDOW_BYTES`] while fewer streams are open on a link: then they take no
/// more than a quarter of a connector's memory.
pub const WIDE_STREAMS_MAX: u32 = 256;
/// The widest window of a stream.
pub const WINDOW_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// A window that is taken within this is too small, however short the round trip is: one side would wait while the other
/// seals or opens.
pub const WINDOW_FAST: Duration = Duration::from_millis(1);
/// A reader that takes nothing for this long is slow: its window shrinks.
pub const SLOW_READER: Duration = Duration::from_secs(2);
/// Credit beyond this is a protocol error.
pub const CREDIT_BYTES_MAX: u32 = (1 << 31) - 1;
/// A PING goes out this often.
pub const PING_EVERY: Duration = Duration::from_secs(10);
/// Once nothing arrived for this long after a REQUEST went out, its link is asked whether the connector is there.
pub const QUIET: Duration = Duration::from_secs(2);
/// A peer that leaves a PING unanswered for this long, and says nothing else, is unresponsive: others get what is new.
pub const UNRESPONSIVE: Duration = Duration::from_secs(3);
/// A link on which nothing arrived for this long has ended.
pub const SILENCE: Duration = Duration::from_secs(25);
/// Lists of connectors that links may be sending at once, the latest and older ones.
pub const PEERS_LISTS_MAX: usize = 4;
/// A connector in such a list: three texts, when it joined, and what holds them.
pub const PEER_BYTES_MAX: usize = 3 * NAME_BYTES_MAX + 80;
/// PEERS goes out at most this often.
pub const PEERS_EVERY: Duration = Duration::from_secs(1);
/// Control frames that a peer may send in one second.
pub const CONTROL_FRAMES_PER_SEC_MAX: u32 = 1000;
/// A link that broke has this long to take the Close that says why.
pub const FAREWELL: Duration = Duration::from_secs(2);
/// Sealed output that may wait for the socket: four records.
pub const LINK_OUTPUT_BYTES: usize = 4 * RECORD_FILL_BYTES;

// ---- Buffers and turns ---------------------------------------------------------------------------------------------

/// What waits in one direction of an exchange for a link to seal it …
pub const MAILBOX_BYTES: usize = 64 * 1024;
/// … and what may wait there however little memory there is.
pub const MAILBOX_BYTES_MIN: usize = 2 * 1024;
/// The state of one exchange and of its stream, whatever it carries.
pub const EXCHANGE_BYTES: usize = 1024;
/// Plain output to a visitor or an app that may wait for the socket before more is rendered.
pub const HTTP_OUTPUT_BYTES: usize = 64 * 1024;
/// Bytes one `advance` works through before it asks to be called again.
pub const TURN_BYTES: usize = 256 * 1024;
/// What a connection can have read and not worked off: a head, or a record, that lacks its last byte, and one read.
pub const RECEIVE_BUFFER_BYTES: usize = MESSAGE_BYTES_MAX + READ_BYTES;
/// What a connection can have rendered and not sent: its output, and what was rendered last.
pub const SEND_BUFFER_BYTES: usize = HTTP_OUTPUT_BYTES + LINK_HEAD_BYTES_MAX;
/// What one read takes at most.
pub const READ_BYTES: usize = 64 * 1024;
/// The least memory that makes sense: one exchange with the longest head and a body each way, four times.
pub const MEMORY_BYTES_MIN: usize = 1024 * 1024;
/// Memory for the windows of all exchanges of a gateway (`--memory`).
pub const GATEWAY_MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// The same of a connector.
pub const CONNECTOR_MEMORY_BYTES: usize = 64 * 1024 * 1024;

// ---- Coming and going ----------------------------------------------------------------------------------------------

/// What is open gets this long when a process drains (`--drain`).
pub const DRAIN: Duration = Duration::from_secs(10);
/// A secret shorter than this gets a warning.
pub const SECRET_BYTES_GOOD: usize = 16;
/// A secret longer than this is refused: it is a wrong file.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;
/// A PIN made by us has this many characters.
pub const PIN_CHARS: usize = 6;
/// A fixed PIN shorter than this gets a warning.
pub const PIN_CHARS_GOOD: usize = 10;
/// Connections of a gateway at once, visitors and links together: some 20 KiB each when busy and 1 KiB when idle. From
/// fifteen sixteenths of it on, or of what a runtime allows, each newcomer sheds the visitors that have rested longest.
pub const CONNECTIONS_MAX: u32 = 16_384;
/// Descriptors that no connection gets: what waits for readiness, signals and names to be resolved, and the one with which
/// a connection beyond the limit is accepted to be closed.
pub const DESCRIPTORS_SPARE: usize = 16;
