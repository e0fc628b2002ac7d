//! Every fuzz target over its committed corpus: what was found once stays mended.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use gesher_core::sim::fuzz::TARGETS;

#[test]
#[expect(clippy::disallowed_methods, reason = "the corpus is made of files; the core has none")]
fn every_input_of_the_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut failed = Vec::new();
    for (name, body) in TARGETS {
        let files = fs::read_dir(corpus.join(name)).expect("every target has a corpus");
        let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() >= 5, "{name} has a corpus");
        failed.extend(files.into_iter().filter(|file| {
            let input = fs::read(file).unwrap();
            catch_unwind(|| body(&input)).is_err()
        }));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// One that is missing would neither be built nor run.
#[test]
fn every_target_has_its_program() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fuzz/fuzz_targets/{name}.rs"));
        assert!(fs::read_to_string(program).unwrap().contains(&format!("sim::fuzz::{name}(data)")), "{name}");
    }
}
