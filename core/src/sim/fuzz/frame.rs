//! Frames: the bytes are the plaintext of a record.

use crate::limits;
use crate::link::frame::{Frame, PeersCollector, PeersPart, check, parse, put_peers};

/// Parses bytes as the frames of a record; what parses is put and parsed again.
pub fn frame(data: &[u8]) {
    let frames = &data[..data.len().min(limits::RECORD_PLAIN_BYTES_MAX - 8)];
    let parsed: Vec<_> = parse(frames).collect();
    let fault = parsed.iter().find_map(|frame| frame.as_ref().err().copied());
    assert_eq!(check(frames).err(), fault, "to check is to parse");
    assert_eq!(parsed.iter().filter(|frame| frame.is_err()).count(), usize::from(fault.is_some()));
    let mut collector = PeersCollector::default();
    for frame in parsed.into_iter().flatten() {
        keeps_its_limits(&frame);
        same_again(&frame);
        if let Frame::Peers(part) = frame {
            collect(&mut collector, &part);
        }
    }
}

fn keeps_its_limits(frame: &Frame<'_>) {
    let short = |text: &str| {
        assert!(text.len() <= limits::NAME_BYTES_MAX && !text.contains(char::is_control));
    };
    match frame {
        Frame::Hello(hello) => {
            assert!(hello.window <= limits::CREDIT_BYTES_MAX);
            short(&hello.name);
            short(&hello.id);
        }
        Frame::Request { stream, head, .. } | Frame::Response { stream, head, .. } => {
            assert!(*stream > 0 && head.len() <= limits::LINK_HEAD_BYTES_MAX);
        }
        Frame::Data { stream, bytes } => {
            assert!(*stream > 0 && (1..=limits::DATA_BYTES_MAX).contains(&bytes.len()));
        }
        Frame::End { stream, trailers } => {
            assert!(*stream > 0 && trailers.len() <= limits::TRAILER_BYTES_MAX);
        }
        Frame::Reset { stream, reason, .. } => {
            assert!(*stream > 0 && reason.len() <= limits::REASON_BYTES_MAX);
        }
        Frame::Window { stream, credit } => assert!(*stream > 0 && *credit > 0),
        Frame::GoAway { reason, .. } => assert!(reason.len() <= limits::REASON_BYTES_MAX),
        Frame::Stats(stats) => stats.connectors.iter().for_each(|connector| short(&connector.id)),
        Frame::Ping(_)
        | Frame::Pong(_)
        | Frame::PeersAsk
        | Frame::Peers(_)
        | Frame::StatsAsk
        | Frame::Unknown => {}
    }
}

/// Put and parsed again it is the same, and put once more the same bytes.
fn same_again(frame: &Frame<'_>) {
    let mut bytes = Vec::new();
    frame.put(&mut bytes);
    if matches!(frame, Frame::Unknown) {
        return assert!(bytes.is_empty());
    }
    let again: Vec<_> = parse(&bytes).collect();
    match (&again[..], frame) {
        // Of connectors as many as fit.
        ([Ok(Frame::Stats(again))], Frame::Stats(stats)) => {
            assert!(stats.connectors.starts_with(&again.connectors) && again.requests == stats.requests);
        }
        _ => assert_eq!(again, [Ok(frame.clone())]),
    }
    let mut twice = Vec::new();
    for frame in again.into_iter().flatten() {
        frame.put(&mut twice);
    }
    assert_eq!(twice, bytes);
}

/// A list that is whole is the same after it was sent in parts.
fn collect(collector: &mut PeersCollector, part: &PeersPart<'_>) {
    let Ok(Some(peers)) = collector.add(part) else { return };
    assert!(peers.len() <= limits::PEERS_MAX);
    let (mut again, mut sent) = (PeersCollector::default(), 0);
    loop {
        let mut bytes = Vec::new();
        sent += put_peers(&peers[sent..], &mut bytes);
        let parts: Vec<_> = parse(&bytes).collect();
        let [Ok(Frame::Peers(part))] = &parts[..] else { panic!("one part a record: {parts:?}") };
        match again.add(part) {
            Ok(None) => assert!(sent < peers.len(), "the last part ends the list"),
            all => return assert_eq!(all, Ok(Some(peers))),
        }
    }
}
