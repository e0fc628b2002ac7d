//! stub
use super::*;
/// stub
#[derive(Debug)]
pub struct Fernet;
impl Seals for Fernet {
    fn sealer(&self, _: &SealKey) -> Box<dyn Sealer> {
        unimplemented!()
    }
    fn opener(&self, _: &SealKey) -> Box<dyn Opener> {
        unimplemented!()
    }
}
