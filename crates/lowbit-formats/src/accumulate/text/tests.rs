use super::*;

#[test]
fn texts_print_as_themselves() {
    for text in [
        "e6m9",
        "e6m9 chunk 64",
        "e6m9 chunk 64 outer fp32",
        "fp16 product e4m3 pairwise",
        "e8m12 rounding toward-zero product bf16 chunk 128 outer e8m14",
        "int24",
        "int24 wrap",
        "int64 wrap chunk 32 outer int64",
        "int16 wrap chunk 32 outer int32 wrap",
        "fixed(16,8)",
        "fixed(48,20) wrap",
        "fixed(16,8,symmetric)",
        "bf16 kahan",
        "float(4,3)",
        "e4m3",
        "float(4,3,bias=9,flush) kahan",
        "posit(16,2) chunk 1",
        "hopper-fp8",
        "hopper-fp8 operands e5m2 e4m3",
        "blackwell-fp8 chunk 128 outer fp32",
        "cdna3-tf32 operands fp32 tf32",
        "e6m9:stochastic chunk 64",
        "e6m9:stochastic(bits=8) product e4m3",
        "fixed(16,8):stochastic",
    ] {
        let accumulation: Accumulation = text.parse().unwrap();
        assert_eq!(accumulation.to_string(), text);
        let json = serde_json::to_string(&accumulation).unwrap();
        assert_eq!(
            serde_json::from_str::<Accumulation>(&json).unwrap(),
            accumulation
        );
    }
}

#[test]
fn other_texts_of_the_same() {
    for (text, printed) in [
        ("  float( 6, 9 )   chunk  64", "e6m9 chunk 64"),
        ("E6M9", "e6m9"),
        ("e5m10 product e4m3 pairwise", "fp16 product e4m3 pairwise"),
        ("fixed(16,8) saturate", "fixed(16,8)"),
        ("fixed(16,8,wrap)", "fixed(16,8) wrap"),
        ("fixed(24,0)", "int24"),
        ("bf16 rounding nearest-even", "bf16"),
        ("half kahan", "fp16 kahan"),
        ("Hopper-FP8 operands e4m3 e4m3", "hopper-fp8"),
        ("hopper-fp8 chunk 128", "hopper-fp8 chunk 128 outer fp32"),
        ("e6m9 rounding stochastic", "e6m9:stochastic"),
        ("e6m9:toward-zero", "e6m9 rounding toward-zero"),
    ] {
        assert_eq!(text.parse::<Accumulation>().unwrap().to_string(), printed);
    }
}

#[test]
fn mistakes_are_one_line() {
    for (text, reason) in [
        ("", "nothing follows `accumulate =`"),
        (
            "e6m9 chunks 64",
            "unknown word `chunks`; did you mean `chunk`?",
        ),
        (
            "e6m9 pairwise chunk 4",
            "`chunk` does not belong where it stands",
        ),
        ("e6m9 chunk", "nothing follows `chunk`"),
        ("e6m9 chunk x", "`chunk` takes a number of products"),
        (
            "e6m9 chunk 0",
            "accumulate: chunk is 0, expected at least 1 product",
        ),
        (
            "e9m9",
            "`e9m9`: no format has this name; did you mean `e5m2`?",
        ),
        (
            "e6m9 wrap",
            "only integers saturate or wrap at every step, `e6m9` is none",
        ),
        ("int1", "accumulate: bits is 1, expected 2 to 64"),
        ("int", "`int` has no number of bits"),
        (
            "int24 wrap kahan",
            "accumulate: kahan is int24 wrap, expected floating point, since integers lose \
             nothing that a sum could be compensated for, and wrapped ones no longer know it",
        ),
        (
            "int8 product int16",
            "accumulate: bits is 8, expected at least 16, which int16 needs",
        ),
        (
            "bf16 rounding stochastic(seed=3)",
            "accumulate: seed is 3, expected none here, since each product is given its seed",
        ),
        (
            "bf16:stochastic(bits=40)",
            "unknown rounding `stochastic(bits=40)`: stochastic: bits is 40, expected 1 to 32; \
             did you mean `stochastic`?",
        ),
        (
            "hoper-fp8",
            "`hoper-fp8` is no chip's matrix unit; did you mean `hopper-fp8`?",
        ),
        (
            "hopper-fp8 operands int8 e4m3",
            "int8 does not support sums of hopper-fp8, which takes e4m3, e5m2",
        ),
        (
            "e6m9 operands e4m3 e4m3",
            "`e6m9` takes operands of any format",
        ),
        (
            "hopper-fp8 kahan",
            "hopper-fp8 does not support compensated sums",
        ),
        (
            "hopper-fp8 pairwise",
            "hopper-fp8 does not support sums in pairs",
        ),
        (
            "hopper-fp8 product e4m3",
            "hopper-fp8 does not support products rounded first",
        ),
        (
            "hopper-fp8:stochastic",
            "hopper-fp8 does not support another rounding",
        ),
        (
            "hopper-fp8 wrap",
            "only integers saturate or wrap at every step, `hopper-fp8` is none",
        ),
        (
            "hopper-fp8 chunk 128 outer int32",
            "accumulate: outer is int32, expected a format that is no integer's",
        ),
        (
            "mxfp8(e4m3)",
            "mxfp8(e4m3) does not support sums, since its numbers share a scale",
        ),
        (
            "uint8",
            "uint8 does not support sums, since it has no negative numbers",
        ),
        (
            "int16 chunk 8 outer fp32",
            "accumulate: outer is fp32, expected an integer in the units of the chunks",
        ),
        (
            "fp16 chunk 8 outer int32",
            "accumulate: outer is int32, expected a format that is no integer's",
        ),
    ] {
        let error = text.parse::<Accumulation>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("unknown sums `{text}`: {reason}")
        );
        assert!(!error.to_string().contains('\n'));
    }
}

/// The product of -128 and -128 is 2^14 and takes 16 bits with its sign.
#[test]
fn operands_that_an_integer_does_not_hold() {
    let check = |text: &str, format: &str| {
        let format: Format = format.parse().unwrap();
        text.parse::<Accumulation>()
            .unwrap()
            .check_operands(&format, &format)
    };
    let error = check("int15", "int8").unwrap_err().to_string();
    assert_eq!(
        error,
        "accumulate: bits is 15, expected at least 16, which int8 times int8 needs"
    );
    assert_eq!(check("int16", "int8"), Ok(()));
    assert_eq!(check("fixed(16,12)", "fixed(8,6)"), Ok(()));
    assert_eq!(check("fixed(12,8)", "fixed(8,6)"), Ok(()));
    assert!(check("fixed(16,14)", "fixed(8,6)").is_err());
    assert_eq!(check("e4m3", "e5m2"), Ok(()));
    assert_eq!(check("hopper-fp8", "e4m3(saturate)"), Ok(()));
    assert_eq!(check("hopper-tf32", "fp32"), Ok(()));
    let error = check("hopper-bf16", "e4m3").unwrap_err().to_string();
    assert_eq!(
        error,
        "e4m3 does not support sums of hopper-bf16, which takes bf16"
    );
}
