//! Networks of characters as folders.

use lowbit::Device;
use lowbit::config::{Planner, QPlan};
use lowbit::models::{GptConfig, GptSize, Width};
use lowbit_text::models::{CharacterModel, LanguageModel};
use lowbit_text::{Language, ModelFolder, Sampling};

/// What is written is read back as the same network and alphabet, and goes on with the same text.
#[test]
fn a_folder_is_the_network_again() {
    let alphabet: Vec<char> = "\n !aäé€\"".chars().collect();
    let plan = QPlan::float();
    let config = GptConfig {
        size: GptSize::Nano,
        width: Width::ONE,
        context: 12,
        characters: alphabet.len(),
        plan: plan.clone(),
    };
    let (sizes, device) = (config.decoder(), Device::flex());
    let mut planner = Planner::new(&plan).unwrap();
    let network = LanguageModel::init_planned(&sizes, &mut planner, &device).unwrap();
    let model = CharacterModel {
        network: &network,
        sizes: &sizes,
        alphabet: &alphabet,
    };
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in model.files() {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let folder = ModelFolder::open(dir.path()).unwrap();
    let text = "a é\n€\"";
    let tokens = folder.tokenizer.encode(text).unwrap().ids;
    let places = text.chars().map(|c| alphabet.iter().position(|a| *a == c));
    let places: Vec<u32> = places.map(|place| place.unwrap() as u32).collect();
    assert_eq!(tokens, places);
    assert_eq!(folder.tokenizer.decode(&tokens).unwrap(), text);
    let read = folder.language_model(&plan, &device).unwrap();
    assert_eq!(read.warnings(), Vec::<String>::new());
    let sampling = Sampling {
        tokens: 6,
        temperature: 1.0,
        top: 0,
        seed: 3,
    };
    let [ours, again] = [&network, &read.network].map(|network| {
        let language = Language {
            network,
            positions: 12,
            device: device.clone(),
        };
        let found = language.perplexity(&tokens, 6, 6, &mut |_, _| {}).unwrap();
        (found, language.go_on(&tokens, &sampling, &[]).unwrap())
    });
    assert_eq!(ours, again);
    let strange = folder.tokenizer.encode("aß").unwrap().ids;
    assert_eq!(strange.len(), 1, "what is in no alphabet is left out");
}
