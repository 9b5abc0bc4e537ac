//! Files: what is written is read again, and what is damaged is refused in one line.

use lowbit_int::{Graph, Rounding, interpret};
use proptest::prelude::*;

use super::random::{Random, slices};

#[test]
fn what_is_written_is_read_again() {
    let mut random = Random(1);
    for _ in 0..2_000 {
        let graph = random.graph();
        let text = graph.to_json();
        let again = Graph::from_json(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(again, graph);
        assert_eq!(again.to_json(), text);
    }
}

/// Files from before inputs had a rounding.
#[test]
fn inputs_without_a_rounding_are_rounded_half_to_even() {
    let mut graph = Random(2).graph();
    let x = graph.inputs()[0];
    graph.round_input(x, Rounding::Floor).unwrap();
    let text = graph.to_json();
    let old = text.replacen(",\"rounding\":\"floor\"", "", 1);
    let old = Graph::from_json(&old).unwrap();
    assert_eq!(old.input_rounding(x), Some(Rounding::HalfEven));
    assert_eq!(old.input_rounding(old.nodes()[0].output()), None);
    assert!(
        graph
            .round_input(old.nodes()[0].output(), Rounding::Floor)
            .is_err()
    );
}

#[test]
fn a_file_is_whole_or_not_there() {
    let folder = std::env::temp_dir().join(format!("lowbit-int-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (path, graph) = (folder.join("net.json"), Random(2).graph());
    graph.write(&path).unwrap();
    assert_eq!(Graph::read(&path).unwrap(), graph);
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, 1);
    let missing = Graph::read(&folder.join("none.json"))
        .unwrap_err()
        .to_string();
    assert!(missing.contains("none.json"), "{missing}");
    assert!(graph.write(&folder.join("none/net.json")).is_err());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Reads a damaged text. What it says is one line without control characters; what it accepts can be
/// run.
fn read_damaged(text: &str, random: &mut Random) {
    match Graph::from_json(text) {
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
        Ok(graph) => {
            let elements = graph.tensors().map(|(_, tensor)| tensor.elements());
            if elements.sum::<usize>() < 10_000 {
                let images = random.images(&graph, 1);
                interpret(&graph, &slices(&images)).unwrap();
            }
        }
    }
}

#[test]
fn truncated_files_are_refused() {
    let mut random = Random(3);
    for _ in 0..20 {
        let text = random.graph().to_json();
        for end in (0..text.len().min(3_000) - 2).step_by(7) {
            assert!(Graph::from_json(&text[..end]).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Bytes are replaced by others, above all by those that JSON has.
    #[test]
    fn damaged_files_do_not_panic(
        seed in any::<u64>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut random = Random(seed);
        let mut text = random.graph().to_json().into_bytes();
        for (place, byte) in damage {
            let alphabet = b"0123456789-.,:[]{}\"eE";
            let at = place.index(text.len());
            text[at] = if byte < 200 { alphabet[usize::from(byte) % alphabet.len()] } else { byte };
        }
        read_damaged(&String::from_utf8_lossy(&text), &mut random);
    }
}
