//! Where two machines meet: an [`Exchange`] between the HTTP side (a visitor's or an app's connection) and a link.
//!
//! Each direction is a lane: what one side posted and the other has not taken. Lanes are bounded by credit, so
//! posting can neither block nor overflow: towards the link what waits is bounded by [`MAILBOX_BYTES`], the memory of
//! the process and the peer's credit, towards the HTTP side by the window that this process granted.
//!
//! An exchange holds memory of the process's pool for all of it: for the window that the peer may use, for what waits
//! for the link beyond [`MAILBOX_BYTES_MIN`], and for heads. It gives it back as it is no longer needed, at the latest
//! when it is dropped.
//!
//! ```text
//!   visitor or target                    Exchange                         link
//!   ───────────────── post ─▶  to_link: head, data, END, RESET  ─ drain ─▶ frames
//!   ───────────────── take ◀─  to_http: head, data, END, failure ◀ deliver ─ frames
//!                     consumed ──────────────▶ WINDOW
//! ```
//!
//! Whoever posts does it in this order: post under the exchange's lock, release it, then ring (the link's inbox or
//! the HTTP side's port). No lock is taken under another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::admission::{Lease, Pool, Purpose};
use crate::buf::ByteQueue;
use crate::http1::body::BodyKind;
use crate::limits::{
    CREDIT_BYTES_MAX, DATA_BYTES_MAX, MAILBOX_BYTES, MAILBOX_BYTES_MIN, RECORD_PLAIN_BYTES_MAX,
};
use crate::link::frame::{Frame, RequestNotes, ResetCode};
use crate::machine::{Effects, PortId};

/// What the HTTP side consumed is told to the link in portions of a quarter of the first window.
const CONSUMED_PARTS: u32 = 4;

/// A head as the link carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LinkHead {
    pub(crate) kind: BodyKind,
    pub(crate) text: Vec<u8>,
}

impl LinkHead {
    /// Whether a request with this head may be sent twice (RFC 9110, 9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        let methods = [&b"GET "[..], b"HEAD ", b"OPTIONS ", b"PUT ", b"DELETE "];
        methods.iter().any(|method| self.text.starts_with(method))
    }

    /// Takes the place of an earlier informational response, but not of a 100: its visitor may wait for it. Returns the
    /// one that is dropped.
    fn replace(self, place: &mut Option<LinkHead>) -> Option<LinkHead> {
        match place {
            Some(earlier) if earlier.text.starts_with(b"HTTP/1.1 100") => Some(self),
            _ => place.replace(self),
        }
    }
}

/// Why the other side of an exchange will send nothing more, although it was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The peer sent RESET.
    Reset(ResetCode),
    /// The link is gone.
    LinkLost,
    /// The link was gone before the request was sealed: nothing of it left this process.
    NeverSealed,
    /// There was no memory for a head or for trailers.
    NoMemory,
}

/// How many bytes each side of an exchange may send before it is granted more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FirstWindows {
    /// This side, to the peer.
    pub(crate) to_link: u32,
    /// The peer, to this side; part of the exchange's lease.
    pub(crate) to_http: u32,
}

/// One request and its response, or one upgraded connection, between an HTTP side and a link.
#[derive(Debug)]
pub(crate) struct Exchange {
    inbox: Arc<Inbox>,
    pool: Arc<Pool>,
    /// What the peer may send at first.
    window: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Who is rung for `to_http`; none until an app's connection takes the exchange.
    http: Option<PortId>,
    /// The stream's number, once the link gave it one.
    stream: Option<u32>,
    /// The peer knows the stream: its REQUEST was sealed, or came.
    known: bool,
    /// Whether the exchange stands in the link's inbox.
    queued: bool,
    notes: RequestNotes,
    to_link: Outbound,
    to_http: Inbound,
    /// The memory that is set aside for it.
    lease: Lease,
}

/// Towards the link.
#[derive(Debug, Default)]
struct Outbound {
    interim: Option<LinkHead>,
    head: Option<LinkHead>,
    data: Vec<u8>,
    /// How much of `data` was drained.
    drained: usize,
    /// The part of the lease that is for `data`.
    lent: usize,
    end: Option<Vec<u8>>,
    reset: Option<(ResetCode, &'static str)>,
    /// How many more bytes may be posted.
    credit: u32,
    /// The HTTP side wants to know when there is room again.
    starved: bool,
    /// Credit came since the HTTP side looked.
    granted: bool,
    /// The link takes no more: the peer wants none, or it is gone.
    stopped: bool,
}

/// Towards the HTTP side.
#[derive(Debug, Default)]
struct Inbound {
    interim: Option<LinkHead>,
    head: Option<LinkHead>,
    data: ByteQueue,
    end: Option<Vec<u8>>,
    ended: bool,
    failure: Option<Failure>,
    /// Consumed by the HTTP side, not yet told to the link.
    consumed: u32,
}

/// What the HTTP side finds in its lane, beside data.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) interim: Option<LinkHead>,
    pub(crate) head: Option<LinkHead>,
    /// The trailers; the peer's part of the exchange is whole. Comes after the last data.
    pub(crate) end: Option<Vec<u8>>,
    pub(crate) failure: Option<Failure>,
    /// The link takes no more of what this side posts.
    pub(crate) stopped: bool,
    /// The peer granted credit since the last time: its side moves.
    pub(crate) granted: bool,
}

impl Outbound {
    /// What waits beyond what may wait in any case.
    fn beyond_own(&self) -> usize {
        (self.data.len() - self.drained).saturating_sub(MAILBOX_BYTES_MIN)
    }

    /// Gives back the memory of what was drained.
    fn give_back(&mut self, lease: &mut Lease) {
        let unused = self.lent - self.beyond_own().min(self.lent);
        self.lent -= unused;
        lease.give_back(unused);
    }

    /// Nothing waits any more: an exchange that rests holds no buffer.
    fn drop_data(&mut self, lease: &mut Lease) {
        if self.data.capacity() > MAILBOX_BYTES_MIN {
            self.data = Vec::new();
        }
        self.data.clear();
        self.drained = 0;
        self.give_back(lease);
    }
}

/// Room in the lane towards a link, with its memory set aside; what is not used of it goes back.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    exchange: &'a Exchange,
    bytes: usize,
    /// How much of it was taken of the pool.
    lent: usize,
}

impl Room<'_> {
    /// How many bytes may be posted.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.lent > 0 {
            self.exchange.pool.put(self.lent);
        }
    }
}

impl Taken {
    /// How long its heads and trailers are.
    fn text_bytes(&self) -> usize {
        let heads = [&self.interim, &self.head].into_iter().flatten().map(|head| head.text.len());
        heads.sum::<usize>() + self.end.as_ref().map_or(0, Vec::len)
    }

    /// Whether there was nothing from the peer, but perhaps data.
    pub(crate) fn is_empty(&self) -> bool {
        self.interim.is_none() && self.head.is_none() && self.end.is_none() && self.failure.is_none()
    }
}

/// What a link found when it drained an exchange.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// There is more to send.
    pub(crate) more: bool,
    /// END went out.
    pub(crate) ended: bool,
    /// RESET went out: the stream is over.
    pub(crate) reset: bool,
    /// DATA bytes that went out.
    pub(crate) data_bytes: usize,
    /// What the HTTP side consumed since the last time.
    pub(crate) consumed: u32,
}

impl Exchange {
    /// A new exchange for the link behind `inbox`. `lease` holds its memory, the peer's first window included.
    pub(crate) fn new(
        inbox: Arc<Inbox>,
        http: Option<PortId>,
        windows: FirstWindows,
        lease: Lease,
    ) -> Arc<Self> {
        Arc::new(Self {
            inbox,
            pool: lease.pool().clone(),
            window: windows.to_http,
            state: Mutex::new(State {
                http,
                stream: None,
                known: false,
                queued: false,
                notes: RequestNotes::default(),
                to_link: Outbound { credit: windows.to_link, ..Outbound::default() },
                to_http: Inbound::default(),
                lease,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the HTTP side ---------------------------------------------------------------------------------------------

    /// From now on `port` is rung for what the link delivers.
    pub(crate) fn attach_http(&self, port: PortId) {
        self.lock().http = Some(port);
    }

    /// What the gateway knows of the request beside its head.
    pub(crate) fn notes(&self) -> RequestNotes {
        self.lock().notes
    }

    /// Posts the head of the request.
    pub(crate) fn post_request(self: &Arc<Self>, head: LinkHead, notes: RequestNotes, fx: &mut Effects) {
        self.post_to(fx, |state| {
            state.notes = notes;
            state.to_link.head = Some(head);
        });
    }

    /// Posts the head of the final response.
    pub(crate) fn post_head(self: &Arc<Self>, head: LinkHead, fx: &mut Effects) {
        self.post(fx, |to_link| to_link.head = Some(head));
    }

    /// Posts an informational response; it takes the place of one that was not sent yet, unless that is a 100.
    pub(crate) fn post_interim(self: &Arc<Self>, head: LinkHead, fx: &mut Effects) {
        self.post(fx, |to_link| drop(head.replace(&mut to_link.interim)));
    }

    /// How many bytes [`Self::post_data`] takes now. If none, the HTTP side is rung when there is room again.
    pub(crate) fn room(&self) -> Room<'_> {
        self.room_of(1)
    }

    /// The same, but none where it is less than `least`.
    pub(crate) fn room_of(&self, least: usize) -> Room<'_> {
        let to_link = &mut self.lock().to_link;
        let waiting = to_link.data.len() - to_link.drained;
        let free = if to_link.stopped { 0 } else { MAILBOX_BYTES.saturating_sub(waiting) };
        let wanted = free.min(to_link.credit as usize);
        let own = wanted.min((MAILBOX_BYTES_MIN + to_link.lent).saturating_sub(waiting));
        let is_lent = wanted > own && self.pool.take(wanted - own, Purpose::Speed);
        let (bytes, lent) = if is_lent { (wanted, wanted - own) } else { (own, 0) };
        let bytes = if bytes < least { 0 } else { bytes };
        to_link.starved = bytes == 0;
        Room { exchange: self, bytes, lent }
    }

    /// Posts body bytes into the room that there is for them. `bytes` is left empty.
    pub(crate) fn post_data(self: &Arc<Self>, mut room: Room<'_>, bytes: &mut Vec<u8>, fx: &mut Effects) {
        if bytes.is_empty() {
            return;
        }
        self.post_to(fx, |State { to_link, lease, .. }| {
            let count = u32::try_from(bytes.len()).expect("bounded by room");
            to_link.credit = to_link.credit.checked_sub(count).expect("never more than there is room for");
            if to_link.data.is_empty() {
                std::mem::swap(&mut to_link.data, bytes);
            } else {
                to_link.data.extend_from_slice(bytes);
            }
            let lent = to_link.beyond_own().saturating_sub(to_link.lent);
            room.lent = room.lent.checked_sub(lent).expect("room has the memory for it");
            to_link.lent += lent;
            lease.add(lent);
        });
        bytes.clear();
    }

    /// Posts the end, with trailers in link form.
    pub(crate) fn post_end(self: &Arc<Self>, trailers: Vec<u8>, fx: &mut Effects) {
        self.post(fx, |to_link| to_link.end = Some(trailers));
    }

    /// Posts a RESET. After an END it only means *send no more* and goes out after it; else what was posted and not
    /// sent is dropped, and so is a whole request that was not sent at all.
    pub(crate) fn reset(self: &Arc<Self>, code: ResetCode, reason: &'static str, fx: &mut Effects) {
        self.post_to(fx, |State { to_link, known, lease, .. }| {
            to_link.reset = Some((code, reason));
            if to_link.end.is_none() || !*known {
                to_link.interim = None;
                to_link.head = None;
                to_link.drop_data(lease);
                to_link.end = None;
            }
        });
    }

    /// Whether the link takes no more of what this side posts, for another reason than a failure that
    /// [`Self::take`] has yet to tell of: after that the rest may be for another link.
    pub(crate) fn stopped(&self) -> bool {
        let state = self.lock();
        state.to_link.stopped && state.to_http.failure.is_none()
    }

    /// Takes what the link delivered; of the data the next portion, at most `room` bytes, into `data`, which is empty.
    pub(crate) fn take(&self, room: usize, data: &mut Vec<u8>) -> Taken {
        let State { to_http, to_link, lease, .. } = &mut *self.lock();
        to_http.data.pop(room, data);
        let taken = Taken {
            interim: to_http.interim.take(),
            head: to_http.head.take(),
            end: if to_http.data.is_empty() { to_http.end.take() } else { None },
            failure: to_http.failure.take(),
            stopped: to_link.stopped,
            granted: std::mem::take(&mut to_link.granted),
        };
        lease.give_back(taken.text_bytes());
        taken
    }

    /// The number by which the gateway's log names the request; 0 if it is not known.
    pub(crate) fn id(&self) -> u64 {
        self.lock().notes.id
    }

    /// Takes the head alone; none if the exchange was given up meanwhile.
    ///
    /// Its memory stays set aside: it may be put back.
    pub(crate) fn take_head(&self) -> Option<LinkHead> {
        let State { to_http, to_link, .. } = &mut *self.lock();
        to_http.head.take().filter(|_| !to_link.stopped)
    }

    /// Whether nobody wants it any more, before an app's connection took it.
    pub(crate) fn is_given_up(&self) -> bool {
        self.lock().to_link.stopped
    }

    /// Leaves a head for another HTTP side, which has not begun with it.
    pub(crate) fn put_back(&self, head: LinkHead) {
        self.lock().to_http.head = Some(head);
    }

    /// `count` bytes left the output buffer towards the reader: the peer may send as many more.
    pub(crate) fn consumed(self: &Arc<Self>, count: usize, fx: &mut Effects) {
        if count == 0 {
            return;
        }
        let ring = {
            let state = &mut *self.lock();
            let to_http = &mut state.to_http;
            to_http.consumed = to_http.consumed.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            to_http.consumed >= self.window / CONSUMED_PARTS
                && !to_http.ended
                && !state.to_link.stopped
                && !std::mem::replace(&mut state.queued, true)
        };
        if ring {
            self.ring_link(fx);
        }
    }

    fn post(self: &Arc<Self>, fx: &mut Effects, change: impl FnOnce(&mut Outbound)) {
        self.post_to(fx, |state| change(&mut state.to_link));
    }

    fn post_to(self: &Arc<Self>, fx: &mut Effects, change: impl FnOnce(&mut State)) {
        let ring = {
            let state = &mut *self.lock();
            if state.to_link.stopped {
                return;
            }
            change(state);
            !std::mem::replace(&mut state.queued, true)
        };
        if ring {
            self.ring_link(fx);
        }
    }

    fn ring_link(self: &Arc<Self>, fx: &mut Effects) {
        if self.inbox.push(self.clone()) {
            fx.wake(self.inbox.port);
        } else {
            self.fail(Failure::LinkLost, fx);
        }
    }

    // ---- the link's side -------------------------------------------------------------------------------------------

    /// The stream's number, once it has one.
    pub(crate) fn stream(&self) -> Option<u32> {
        self.lock().stream
    }

    /// Whether the peer knows the stream: its REQUEST was sealed, or came.
    pub(crate) fn is_known(&self) -> bool {
        self.lock().known
    }

    /// The memory of this process.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// What the peer may send before it is granted more.
    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    /// The window that the peer has became wider by what `lease` holds.
    pub(crate) fn widened(&self, lease: Lease) {
        self.lock().lease.absorb(lease);
    }

    /// The window that the peer has became narrower by so many bytes.
    pub(crate) fn narrowed(&self, bytes: u32) {
        self.lock().lease.give_back(bytes as usize);
    }

    /// Gives the stream its number.
    pub(crate) fn number(&self, stream: u32) {
        self.lock().stream = Some(stream);
    }

    /// The peer opened the stream, with this number.
    pub(crate) fn opened(&self, stream: u32) {
        let state = &mut *self.lock();
        state.stream = Some(stream);
        state.known = true;
    }

    /// Delivers the head of a request, whose memory is part of the lease.
    pub(crate) fn deliver_request(&self, head: LinkHead, notes: RequestNotes, fx: &mut Effects) {
        self.lock().notes = notes;
        self.deliver(fx, |to_http| to_http.head = Some(head));
    }

    /// Delivers a head; an informational one takes the place of one that was not read yet, unless that is a 100. False if
    /// there is no memory for it.
    #[must_use]
    pub(crate) fn deliver_head(&self, head: LinkHead, interim: bool, fx: &mut Effects) -> bool {
        self.deliver_text(head.text.len(), fx, |to_http| {
            let dropped =
                if interim { head.replace(&mut to_http.interim) } else { to_http.head.replace(head) };
            dropped.map_or(0, |dropped| dropped.text.len())
        })
    }

    /// Delivers body bytes. The caller has checked them against the window.
    pub(crate) fn deliver_data(&self, bytes: &[u8], fx: &mut Effects) {
        self.deliver(fx, |to_http| to_http.data.push(bytes));
    }

    /// Delivers the end. False if there is no memory for the trailers.
    #[must_use]
    pub(crate) fn deliver_end(&self, trailers: &[u8], fx: &mut Effects) -> bool {
        self.deliver_text(trailers.len(), fx, |to_http| {
            to_http.end = Some(trailers.to_vec());
            to_http.ended = true;
            0
        })
    }

    /// Delivers what is no part of the window: `change` says how many bytes it took the place of.
    fn deliver_text(
        &self,
        bytes: usize,
        fx: &mut Effects,
        change: impl FnOnce(&mut Inbound) -> usize,
    ) -> bool {
        if !self.pool.take(bytes, Purpose::Short) {
            return false;
        }
        let state = &mut *self.lock();
        state.lease.add(bytes);
        let unused = if state.to_http.failure.is_none() { change(&mut state.to_http) } else { bytes };
        state.lease.give_back(unused);
        if let Some(port) = state.http {
            fx.wake(port);
        }
        true
    }

    /// The peer grants `credit` more bytes; false if that is more than 2^31 - 1 in all.
    pub(crate) fn grant(&self, credit: u32, fx: &mut Effects) -> bool {
        let state = &mut *self.lock();
        let Some(sum) = state.to_link.credit.checked_add(credit).filter(|sum| *sum <= CREDIT_BYTES_MAX)
        else {
            return false;
        };
        state.to_link.credit = sum;
        state.to_link.granted = true;
        // Credit is also the sign that the peer's side moves: timers of the HTTP side depend on it.
        if let Some(port) = state.http {
            state.to_link.starved = false;
            fx.wake(port);
        }
        true
    }

    fn deliver(&self, fx: &mut Effects, change: impl FnOnce(&mut Inbound)) {
        let state = &mut *self.lock();
        if state.to_http.failure.is_none() {
            change(&mut state.to_http);
        }
        if let Some(port) = state.http {
            fx.wake(port);
        }
    }

    /// The peer, or the link, gives up: nothing more is sent; what was delivered whole stays valid.
    pub(crate) fn fail(&self, failure: Failure, fx: &mut Effects) {
        let state = &mut *self.lock();
        state.to_link.drop_data(&mut state.lease);
        state.to_link = Outbound { stopped: true, ..Outbound::default() };
        if !state.to_http.ended {
            let failure = match failure {
                Failure::LinkLost if !state.known => Failure::NeverSealed,
                other => other,
            };
            state.to_http.data = ByteQueue::default();
            state.to_http.failure.get_or_insert(failure);
        }
        match state.http {
            Some(port) => fx.wake(port),
            // Nobody has begun with it, nor will.
            None => {
                state.to_http.head = None;
                state.lease.give_back(usize::MAX);
            }
        }
    }

    /// Moves what fits into `frames`: heads first, then at most one DATA frame of at most `data_max` bytes, then END.
    /// A RESET goes out at once, or after the END that was posted before it.
    pub(crate) fn drain(
        &self,
        stream: u32,
        sends: Sends,
        data_max: usize,
        frames: &mut Vec<u8>,
        fx: &mut Effects,
    ) -> Drained {
        let state = &mut *self.lock();
        state.queued = false;
        let out = &mut state.to_link;
        let mut drained =
            Drained { consumed: std::mem::take(&mut state.to_http.consumed), ..Drained::default() };
        for head in [&mut out.interim, &mut out.head] {
            let Some(LinkHead { kind, text }) = head else { continue };
            if text.len() > space(frames) {
                drained.more = true;
                return drained;
            }
            match sends {
                Sends::Requests => {
                    let notes = state.notes;
                    Frame::Request { stream, kind: *kind, notes, head: text }.put(frames)
                }
                Sends::Responses => Frame::Response { stream, kind: *kind, head: text }.put(frames),
            }
            *head = None;
            state.known = true;
        }
        let waiting = out.data.len() - out.drained;
        let count = waiting.min(data_max).min(DATA_BYTES_MAX).min(space(frames));
        if count > 0 {
            let bytes = &out.data[out.drained..out.drained + count];
            Frame::Data { stream, bytes }.put(frames);
            drained.data_bytes = count;
            out.drained += count;
            if count == waiting {
                out.drop_data(&mut state.lease);
            } else {
                out.give_back(&mut state.lease);
            }
            if out.starved && out.credit > 0 {
                out.starved = false;
                if let Some(port) = state.http {
                    fx.wake(port);
                }
            }
        }
        if count < waiting {
            drained.more = true;
            return drained;
        }
        if let Some(trailers) = &out.end {
            if trailers.len() > space(frames) {
                drained.more = true;
                return drained;
            }
            Frame::End { stream, trailers }.put(frames);
            out.end = None;
            drained.ended = true;
        }
        if let Some((code, reason)) = out.reset.take() {
            if state.known {
                Frame::Reset { stream, code, reason }.put(frames);
            }
            drained.reset = true;
        }
        drained
    }
}

/// Which heads a side of a link sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sends {
    /// The gateway.
    Requests,
    /// The connector.
    Responses,
}

/// How many bytes of payload still fit into a record, frame headers left aside.
fn space(frames: &[u8]) -> usize {
    (RECORD_PLAIN_BYTES_MAX - 128).saturating_sub(frames.len())
}

/// The exchanges of one link that have something for it.
#[derive(Debug)]
pub(crate) struct Inbox {
    port: PortId,
    state: Mutex<InboxState>,
}

#[derive(Debug, Default)]
struct InboxState {
    ready: Vec<Arc<Exchange>>,
    closed: bool,
}

impl Inbox {
    /// The inbox of the link at `port`.
    pub(crate) fn new(port: PortId) -> Arc<Self> {
        Arc::new(Self { port, state: Mutex::default() })
    }

    /// The link's port.
    pub(crate) fn port(&self) -> PortId {
        self.port
    }

    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if the link is gone.
    fn push(&self, exchange: Arc<Exchange>) -> bool {
        let mut state = self.lock();
        if !state.closed {
            state.ready.push(exchange);
        }
        !state.closed
    }

    /// Swaps what is ready for `empty`, so that neither allocates.
    pub(crate) fn swap(&self, empty: &mut Vec<Arc<Exchange>>) {
        std::mem::swap(&mut self.lock().ready, empty);
    }

    /// Closes the inbox for good; what nobody will serve comes back.
    pub(crate) fn close(&self) -> Vec<Arc<Exchange>> {
        let mut state = self.lock();
        state.closed = true;
        std::mem::take(&mut state.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::super::admission::Pool;
    use super::*;

    const HTTP: PortId = PortId { index: 1, generation: 1 };
    const LINK: PortId = PortId { index: 2, generation: 1 };

    fn exchange(credit: u32) -> (Arc<Inbox>, Arc<Exchange>) {
        let inbox = Inbox::new(LINK);
        let lease = Pool::new(1000).reserve(10, Purpose::Short).unwrap();
        let windows = FirstWindows { to_link: credit, to_http: 0 };
        (inbox.clone(), Exchange::new(inbox, Some(HTTP), windows, lease))
    }

    #[test]
    fn posting_rings_the_link_once_until_it_drained() {
        let (inbox, exchange) = exchange(100);
        let mut fx = Effects::default();
        let head = LinkHead { kind: BodyKind::None, text: b"GET / HTTP/1.1\r\n\r\n".to_vec() };
        exchange.post_request(head, RequestNotes::default(), &mut fx);
        exchange.post_end(Vec::new(), &mut fx);
        assert_eq!(fx.wakes, [LINK]);
        let mut ready = Vec::new();
        inbox.swap(&mut ready);
        assert_eq!(ready.len(), 1);
        let mut frames = Vec::new();
        let drained = exchange.drain(1, Sends::Requests, usize::MAX, &mut frames, &mut fx);
        assert!(drained.ended && !drained.more);
    }

    #[test]
    fn room_is_bounded_by_credit_and_a_starved_side_is_rung() {
        let (_inbox, exchange) = exchange(10);
        let mut fx = Effects::default();
        assert_eq!(exchange.room().bytes(), 10);
        exchange.post_data(exchange.room(), &mut vec![0; 10], &mut fx);
        assert_eq!(exchange.room().bytes(), 0);
        fx.wakes.clear();
        assert!(exchange.grant(5, &mut fx));
        assert_eq!((exchange.room().bytes(), fx.wakes), (5, vec![HTTP]));
        assert!(!exchange.grant(crate::limits::CREDIT_BYTES_MAX, &mut Effects::default()));
    }

    #[test]
    fn a_reset_drops_what_waits_but_not_what_was_ended() {
        let (_inbox, broken) = exchange(10);
        let mut fx = Effects::default();
        broken.opened(1);
        broken.post_data(broken.room(), &mut vec![0; 10], &mut fx);
        broken.reset(ResetCode::Cancelled, "gone", &mut fx);
        let mut frames = Vec::new();
        let drained = broken.drain(1, Sends::Requests, usize::MAX, &mut frames, &mut fx);
        assert!(drained.reset && drained.data_bytes == 0);

        let (_inbox, whole) = exchange(10);
        whole.opened(1);
        whole.post_data(whole.room(), &mut vec![0; 10], &mut fx);
        whole.post_end(Vec::new(), &mut fx);
        whole.reset(ResetCode::Cancelled, "no more", &mut fx);
        let drained = whole.drain(1, Sends::Requests, usize::MAX, &mut frames, &mut fx);
        assert!(drained.reset && drained.ended && drained.data_bytes == 10);
    }

    #[test]
    fn a_request_that_is_given_up_before_it_was_sealed_leaves_no_trace() {
        let (_inbox, exchange) = exchange(10);
        let mut fx = Effects::default();
        let head = LinkHead { kind: BodyKind::None, text: b"GET / HTTP/1.1\r\n\r\n".to_vec() };
        exchange.post_request(head, RequestNotes::default(), &mut fx);
        exchange.post_end(Vec::new(), &mut fx);
        exchange.number(1);
        exchange.reset(ResetCode::Cancelled, "gone", &mut fx);
        let mut frames = Vec::new();
        let drained = exchange.drain(1, Sends::Requests, usize::MAX, &mut frames, &mut fx);
        assert!(drained.reset && frames.is_empty(), "the peer never heard of the stream");
    }

    #[test]
    fn nothing_is_stopped_by_a_failure_before_that_was_told() {
        let (_inbox, exchange) = exchange(10);
        exchange.fail(Failure::Reset(ResetCode::Refused), &mut Effects::default());
        assert_eq!((exchange.stopped(), exchange.room().bytes()), (false, 0));
        assert_eq!(exchange.take(0, &mut Vec::new()).failure, Some(Failure::Reset(ResetCode::Refused)));
        assert!(exchange.stopped());
    }

    #[test]
    fn what_was_delivered_whole_outlives_the_link() {
        let (inbox, exchange) = exchange(10);
        let mut fx = Effects::default();
        exchange.number(1);
        exchange.deliver_data(b"abc", &mut fx);
        assert!(exchange.deliver_end(b"", &mut fx));
        inbox.close();
        exchange.fail(Failure::LinkLost, &mut fx);
        let mut data = Vec::new();
        let taken = exchange.take(2, &mut data);
        assert_eq!((data.as_slice(), taken.end), (&b"ab"[..], None));
        data.clear();
        let taken = exchange.take(2, &mut data);
        assert_eq!((data.as_slice(), taken.end, taken.failure), (&b"c"[..], Some(Vec::new()), None));
    }

    #[test]
    fn what_waits_for_the_link_holds_memory_until_it_is_sealed_and_little_may_always_wait() {
        let pool = Pool::new(200 * 1024);
        let inbox = Inbox::new(LINK);
        let windows = FirstWindows { to_link: u32::MAX >> 1, to_http: 0 };
        let lease = pool.reserve(MAILBOX_BYTES_MIN, Purpose::Short).unwrap();
        let exchange = Exchange::new(inbox.clone(), Some(HTTP), windows, lease);
        let mut fx = Effects::default();
        exchange.opened(1);
        let others = pool.reserve(100 * 1024, Purpose::Short);
        assert_eq!(exchange.room().bytes(), MAILBOX_BYTES_MIN, "half of the pool is used");
        drop(others);
        assert_eq!(exchange.room().bytes(), MAILBOX_BYTES);
        assert_eq!(pool.used(), MAILBOX_BYTES_MIN, "room that is not used costs nothing");
        exchange.post_data(exchange.room(), &mut vec![0; 40 * 1024], &mut fx);
        assert_eq!(pool.used(), 40 * 1024);
        let (mut frames, mut drained) = (Vec::new(), 0);
        while drained < 40 * 1024 {
            frames.clear();
            drained += exchange.drain(1, Sends::Responses, usize::MAX, &mut frames, &mut fx).data_bytes;
            assert_eq!(pool.used(), MAILBOX_BYTES_MIN.max(40 * 1024 - drained));
        }
        exchange.post_data(exchange.room(), &mut vec![0; 40 * 1024], &mut fx);
        exchange.fail(Failure::LinkLost, &mut fx);
        assert_eq!(pool.used(), MAILBOX_BYTES_MIN);
        drop((exchange, inbox.close()));
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn a_head_that_was_delivered_holds_memory_until_it_is_taken() {
        let pool = Pool::new(100);
        let lease = pool.reserve(10, Purpose::Short).unwrap();
        let windows = FirstWindows { to_link: 0, to_http: 0 };
        let exchange = Exchange::new(Inbox::new(LINK), Some(HTTP), windows, lease);
        let mut fx = Effects::default();
        let head = |bytes| LinkHead { kind: BodyKind::None, text: vec![b'a'; bytes] };
        assert!(exchange.deliver_head(head(30), true, &mut fx));
        assert!(exchange.deliver_head(head(20), true, &mut fx), "it takes the place of the first");
        assert_eq!(pool.used(), 30);
        assert!(!exchange.deliver_head(head(71), false, &mut fx));
        assert!(exchange.deliver_head(head(70), false, &mut fx));
        assert_eq!(exchange.take(0, &mut Vec::new()).head, Some(head(70)));
        assert_eq!(pool.used(), 10);
    }

    #[test]
    fn an_exchange_that_no_link_took_was_never_sealed() {
        let (inbox, exchange) = exchange(10);
        inbox.close();
        exchange.post_end(Vec::new(), &mut Effects::default());
        assert_eq!(exchange.take(0, &mut Vec::new()).failure, Some(Failure::NeverSealed));
    }
}
