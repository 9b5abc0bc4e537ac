use lowbit_formats::{Rounding, kernel, philox::Philox, posit::Posit};
use std::time::Instant;
fn best(mut f: impl FnMut()) -> f64 {
    let mut b = f64::MAX;
    for _ in 0..7 {
        let t = Instant::now();
        f();
        b = b.min(t.elapsed().as_secs_f64());
    }
    b
}
fn main() {
    let n = 1 << 24;
    let input: Vec<f32> = (0..n as u32)
        .map(|i| {
            let h = i.wrapping_mul(2654435761);
            let g = (i ^ 0x9e3779b9).wrapping_mul(0x85ebca6b);
            ((h >> 8) as f32 / 16777216.0 - 0.5) * ((g >> 20) as f32 / 1024.0)
        })
        .collect();
    let mut out = vec![0f32; n];
    let copy = best(|| kernel::map(&input, &mut out, |x| x));
    println!("copy {:.0} M/s", n as f64 / copy / 1e6);
    let t = best(|| {
        kernel::map_random(
            &input,
            &mut out,
            Philox::new(1, 2),
            #[inline(always)]
            move |x, r| x + f32::from_bits(r >> 9),
        )
    });
    println!("random only {:.3}", copy / t);
    for (b, e) in [(8u8, 0u8), (8, 1), (16, 1), (16, 2), (32, 2), (16, 4)] {
        let p = Posit::new(b, e).unwrap();
        let t = best(|| {
            kernel::map(
                &input,
                &mut out,
                #[inline(always)]
                move |x| p.round(x, Rounding::NearestEven, 0),
            )
        });
        let s = Rounding::stochastic(1, 2);
        let t2 = best(|| {
            kernel::map_random(
                &input,
                &mut out,
                Philox::new(1, 2),
                #[inline(always)]
                move |x, r| {
                    p.round(
                        x,
                        Rounding::Stochastic {
                            seed: 1,
                            stream: 2,
                            bits: 32,
                        },
                        r,
                    )
                },
            )
        });
        let words: Vec<f32> = (0..1u32 << 14)
            .map(|i| f32::from_bits(i.wrapping_mul(2654435761)))
            .collect();
        let mut o2 = vec![0f32; 1 << 14];
        let t5 = best(|| {
            for _ in 0..100 {
                kernel::zip(
                    &input[..1 << 14],
                    &words,
                    &mut o2,
                    #[inline(always)]
                    move |x, r| {
                        p.round(
                            x,
                            Rounding::Stochastic {
                                seed: 1,
                                stream: 2,
                                bits: 32,
                            },
                            r.to_bits(),
                        )
                    },
                )
            }
        }) / 100.0;
        println!("zip stochastic {:.0} M/s", (1 << 14) as f64 / t5 / 1e6);
        let t3 = best(|| {
            kernel::map(
                &input,
                &mut out,
                #[inline(always)]
                move |x| p.round(x, Rounding::TowardZero, 0),
            )
        });
        let small = &input[..1 << 14];
        let mut so = vec![0f32; 1 << 14];
        let t4 = best(|| {
            for _ in 0..100 {
                kernel::map(
                    small,
                    &mut so,
                    #[inline(always)]
                    move |x| p.round(x, Rounding::NearestEven, 0),
                )
            }
        }) / 100.0;
        println!(
            "posit({b},{e}) nearest {:.3} stochastic {:.3} zero {:.3} in cache {:.0} M/s",
            copy / t,
            copy / t2,
            copy / t3,
            (1 << 14) as f64 / t4 / 1e6
        );
    }
}
