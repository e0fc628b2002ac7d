//! Bodies of the fuzz targets: each takes any bytes, and panics where something is not as it must be.
//!
//! They are here, and not in `fuzz/`, so that they reach what is not public and so that the committed corpus also runs
//! as ordinary tests (`core/tests/corpus.rs`). `docs/fuzzing.md` says how to run them.
//!
//! | target | what must hold |
//! | --- | --- |
//! | [`http_head`] | cuts change nothing; what one hop lets pass the next one takes, with one framing |
//! | [`http_body`] | cuts and room change nothing; a decoder that sees all at once comes to the same |
//! | [`websocket`] | cuts change nothing; no more is kept than one message; what was written is read |
//! | [`frame`] | what parses keeps its limits, and is the same once it was put and parsed again |
//! | [`record`] | nothing opens but what was sealed, in its order; both ways of Fernet agree |
//! | [`handshake`] | nobody joins, and nobody poses as a gateway, but with what was signed for this one join |
//! | [`hub`] | tables, lanes and pools do what simple models of them do |
//! | [`gateway_connection`] | whatever visitors and connectors send, what comes out keeps the rules, and all ends |
//! | [`connector_connection`] | the same of a connector, between a hostile gateway and a hostile app |
//! | [`replay`] | whatever a capture says, running it ends in order or in an error, each time the same |
//! | [`conversation`] | a whole deployment, with the bytes as its dice, comes to rest, and no answer is wrong |

mod app;
mod connector;
mod conversation;
mod frame;
mod gateway;
mod handshake;
mod http_body;
mod http_head;
mod hub;
mod input;
mod link;
mod record;
mod replay;
mod rig;
mod visitor;
mod websocket;

pub use self::connector::connector_connection;
pub use self::conversation::conversation;
pub use self::frame::frame;
pub use self::gateway::gateway_connection;
pub use self::handshake::handshake;
pub use self::http_body::http_body;
pub use self::http_head::http_head;
pub use self::hub::hub;
pub use self::record::record;
pub use self::replay::replay;
pub use self::websocket::websocket;

/// What a fuzz target runs.
pub type Body = fn(&[u8]);

/// Every target by its name, which is also that of its corpus.
pub const TARGETS: [(&str, Body); 11] = [
    ("http_head", http_head),
    ("http_body", http_body),
    ("websocket", websocket),
    ("frame", frame),
    ("record", record),
    ("handshake", handshake),
    ("hub", hub),
    ("gateway_connection", gateway_connection),
    ("connector_connection", connector_connection),
    ("conversation", conversation),
    ("replay", replay),
];
