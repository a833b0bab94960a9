//! Plots of figures over something that grows: time, shapes, clients, rows. One panel for each figure.

use std::fmt::Write as _;

/// How the axes are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axes {
    /// Evenly, from 0.
    Linear,
    /// By factors of ten. Figures of 0 cannot be shown.
    Logarithmic,
}

/// A figure, as it was measured at each point.
#[derive(Debug, Clone)]
pub struct Curve {
    /// The figure, with its unit.
    pub name: String,
    /// At what, and how much.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 40.0;
const PANEL: f64 = 156.0;
/// The part of a panel that holds its plot.
const PLOT: f64 = 100.0;
/// Of a linear axis, about.
const DIVISIONS: f64 = 4.0;

/// An SVG image of the curves, all over the same `along`.
pub fn svg(title: &str, along: &str, curves: &[Curve], axes: Axes) -> String {
    let height = TOP + PANEL * curves.len() as f64 + 10.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"22\" font-weight=\"bold\">{}, by {}</text>\n",
        escaped(title),
        escaped(along),
    );
    for (index, curve) in curves.iter().enumerate() {
        panel(&mut out, curve, axes, TOP + PANEL * index as f64 + 26.0);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, curve: &Curve, axes: Axes, top: f64) {
    let shown = |(x, y): &&(f64, f64)| axes == Axes::Linear || (*x > 0.0 && *y > 0.0);
    let points: Vec<(f64, f64)> = curve.points.iter().filter(shown).copied().collect();
    let across = Scale::of(points.iter().map(|point| point.0), axes);
    let up = Scale::of(points.iter().map(|point| point.1), axes);
    let (x, y) = (
        |at: f64| LEFT + (RIGHT - LEFT) * across.part(at),
        |figure: f64| top + PLOT * (1.0 - up.part(figure)),
    );
    let _ = writeln!(out, "<text x=\"12\" y=\"{:.1}\">{}</text>", top - 12.0, escaped(&curve.name));
    for figure in up.marks() {
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {0:.1}H{RIGHT}\" stroke=\"#ddd\"/>\
             <text x=\"{1:.1}\" y=\"{2:.1}\" text-anchor=\"end\" fill=\"#666\">{3}</text>",
            y(figure),
            LEFT - 6.0,
            y(figure) + 4.0,
            rounded(figure),
        );
    }
    for at in across.marks() {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
            x(at),
            top + PLOT + 15.0,
            rounded(at),
        );
    }
    let line: Vec<String> =
        points.iter().map(|(at, figure)| format!("{:.1},{:.1}", x(*at), y(*figure))).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#37c\" stroke-width=\"1.5\"/>",
        line.join(" ")
    );
    for (at, figure) in &points {
        let _ =
            writeln!(out, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\" fill=\"#124\"/>", x(*at), y(*figure));
    }
}

/// One axis.
struct Scale {
    axes: Axes,
    least: f64,
    most: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>, axes: Axes) -> Self {
        let (least, most) =
            values.fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        match axes {
            Axes::Linear => Self { axes, least: 0.0, most: (most * 1.05).max(f64::MIN_POSITIVE) },
            Axes::Logarithmic if most <= 0.0 => Self { axes, least: 1.0, most: 10.0 },
            Axes::Logarithmic => {
                let (least, most) = (10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil()));
                Self { axes, least, most: most.max(least * 10.0) }
            }
        }
    }

    /// Where a value lies, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        match self.axes {
            Axes::Linear => value / self.most,
            Axes::Logarithmic => (value / self.least).log10() / (self.most / self.least).log10(),
        }
    }

    fn marks(&self) -> Vec<f64> {
        match self.axes {
            Axes::Linear => {
                let step = round_step(self.most / DIVISIONS);
                (0..).map(|n| f64::from(n) * step).take_while(|mark| *mark <= self.most).collect()
            }
            Axes::Logarithmic => {
                let powers = (self.most / self.least).log10().round() as i32;
                (0..=powers).map(|power| self.least * 10_f64.powi(power)).collect()
            }
        }
    }
}

/// 1, 2 or 5 of some power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= least);
    step.unwrap_or(10.0 * power)
}

/// With as many digits as a reader can use.
fn rounded(figure: f64) -> String {
    match figure {
        1_000_000.0.. => format!("{} M", figure / 1_000_000.0),
        1_000.0.. => format!("{} k", figure / 1_000.0),
        10.0.. | 0.0 => format!("{figure:.0}"),
        _ => format!("{figure:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(f64, f64)]) -> Curve {
        Curve { name: "memory, MB".to_owned(), points: points.to_vec() }
    }

    /// The places of the dots.
    fn dots(image: &str) -> Vec<(f64, f64)> {
        let number = |text: &str, name: &str| {
            let rest = text.split_once(&format!("{name}=\"")).expect("an attribute").1;
            rest.split('"').next().and_then(|number| number.parse::<f64>().ok()).expect("a number")
        };
        image
            .lines()
            .filter(|line| line.starts_with("<circle"))
            .map(|line| (number(line, "cx"), number(line, "cy")))
            .collect()
    }

    #[test]
    fn factors_of_ten_are_evenly_apart_on_logarithmic_axes() {
        let points = [(10.0, 1.0), (100.0, 10.0), (1_000.0, 100.0)];
        let dots = dots(&svg("growth", "shapes", &[curve(&points)], Axes::Logarithmic));
        assert_eq!(dots.len(), 3);
        assert!(((dots[1].0 - dots[0].0) - (dots[2].0 - dots[1].0)).abs() < 0.2, "{dots:?}");
        assert!(((dots[0].1 - dots[1].1) - (dots[1].1 - dots[2].1)).abs() < 0.2, "{dots:?}");
    }

    #[test]
    fn marks_are_round_numbers() {
        let marks = Scale::of([0.0, 2_023.0].into_iter(), Axes::Linear).marks();
        assert_eq!(marks.into_iter().map(rounded).collect::<Vec<_>>(), ["0", "1 k", "2 k"]);
        let marks = Scale::of([150.0, 8_210.0].into_iter(), Axes::Logarithmic).marks();
        assert_eq!(marks.into_iter().map(rounded).collect::<Vec<_>>(), ["100", "1 k", "10 k"]);
    }

    #[test]
    fn figures_of_zero_do_not_break_a_plot() {
        for axes in [Axes::Linear, Axes::Logarithmic] {
            let image = svg("nothing", "seconds", &[curve(&[(0.0, 0.0), (1.0, 0.0)]), curve(&[])], axes);
            assert!(!image.contains("NaN") && !image.contains("inf"), "{image}");
        }
    }
}
