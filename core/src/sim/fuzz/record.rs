//! Records, and the tokens that they are sealed in.
//!
//! ```text
//! 0 │ a hostile token                              1 │ changes │ a plaintext
//! 2 │ what a token has before its HMAC             3 │ number of records, each with its frames │ deliveries
//! ```

use hmac::{Hmac, Mac};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use sha2::Sha256;

use super::input::Input;
use crate::buf::RecvBuf;
use crate::fault::LinkFault;
use crate::link::record::{RecordReader, RecordWriter};
use crate::seal::{CrateFernet, Fernet, FixedIv, Forged, SealKey, Seals, token_len};
use crate::time::UnixSecs;
use crate::websocket::{Message, Reader, Role};

const KEY: [u8; 32] = *b"sixteen to sign.sixteen to crypt";
const AT: UnixSecs = UnixSecs(1_767_225_600);

/// Opens hostile tokens, changes right ones, and delivers records in any order.
pub fn record(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(4) {
        0 => assert_eq!(open(input.rest()), Err(Forged), "nobody without the key makes a token"),
        1 => change_a_token(input),
        2 => open_what_is_signed(input.rest()),
        _ => deliver_records(input),
    }
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

/// Opens a token in both ways, which agree.
fn open(token: &[u8]) -> Result<Vec<u8>, Forged> {
    let [in_place, reference] = [&Fernet as &dyn Seals, &CrateFernet].map(|seals| {
        let mut plain = b"before".to_vec();
        let opened = seals.opener(&KEY.into()).open(token, &mut plain);
        assert!(
            plain.starts_with(b"before") && (opened.is_ok() || plain.len() == 6),
            "plaintexts are appended"
        );
        opened.map(|()| plain.split_off(6))
    });
    assert_eq!(in_place, reference, "both ways agree");
    in_place
}

/// Whatever is changed of a token, it no longer opens.
fn change_a_token(mut input: Input<'_>) {
    let (kind, place, value) = (input.byte(), input.number() as usize, input.byte());
    let plain = input.rest();
    for seals in [&Fernet as &dyn Seals, &CrateFernet, &FixedIv] {
        let mut token = Vec::new();
        seals.sealer(&KEY.into(), rng()).seal(AT, plain, &mut token);
        assert_eq!(token.len(), token_len(plain.len()));
        assert_eq!(open(&token).as_deref(), Ok(plain), "what was sealed opens");
        let mut other = Vec::new();
        assert!(Fernet.opener(&SealKey([7; 32])).open(&token, &mut other).is_err(), "with no other key");
        let place = place % token.len();
        let mut changed = token.clone();
        match kind % 5 {
            0 => changed[place] ^= value.max(1),
            1 => changed.truncate(place),
            2 => changed.insert(place, value),
            3 => changed.extend_from_slice(&token[place..]),
            _ => changed.rotate_left(place),
        }
        if changed != token {
            assert_eq!(open(&changed), Err(Forged));
        }
    }
}

/// With a right HMAC: version, time, IV and blocks as nobody seals them.
fn open_what_is_signed(signed: &[u8]) {
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY[..16]).expect("HMAC takes keys of any length");
    mac.update(signed);
    let token = [signed, &mac.finalize().into_bytes()].concat();
    let Ok(plain) = open(&token) else { return };
    assert!(signed[0] == 0x80 && token.len() == token_len(plain.len()));
}

/// Records that are repeated, dropped, changed or out of order: those before open, it does not, and that ends it.
fn deliver_records(mut input: Input<'_>) {
    let (mut writer, mut wire) = (RecordWriter::new(Fernet.sealer(&KEY.into(), rng())), Vec::new());
    let sealed: Vec<&[u8]> = (0..=input.below(5)).map(|_| input.bytes()).collect();
    for frames in &sealed {
        writer.frames().extend_from_slice(frames);
        assert_eq!((writer.len(), writer.is_empty()), (frames.len(), frames.is_empty()));
        writer.end_record();
    }
    writer.seal(AT, Role::Gateway, &mut rng(), &mut wire);
    let (mut reader, mut arrived, mut tokens) =
        (Reader::new(Role::Connector), RecvBuf::default(), Vec::new());
    arrived.push(&wire);
    while let Ok(Some(Message::Binary(token))) = reader.next(&mut arrived) {
        tokens.push(token.to_vec());
    }
    assert_eq!(tokens.len(), sealed.len());
    let mut records = RecordReader::new(Fernet.opener(&KEY.into()));
    for next in 0.. {
        if input.is_empty() {
            break;
        }
        let place = input.below(tokens.len());
        let mut token = tokens[place].clone();
        let flip = input.byte();
        if flip > 127 {
            token[usize::from(flip) * 7 % tokens[place].len()] ^= 1;
        }
        let expected = match place {
            _ if flip > 127 => Err(LinkFault::Forged),
            place if place == next => Ok(sealed[place]),
            _ => Err(LinkFault::Sequence),
        };
        let opened = records.open(&token);
        assert_eq!(opened, expected);
        if opened.is_err() {
            break;
        }
    }
}
