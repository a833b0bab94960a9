//! A plot of one scenario: a line for the floor and each build, with a dot for each run and a mark at the median.

use crate::figures::Figures;
use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 44.0;
const LINE: f64 = 34.0;

/// An SVG image of these series. `goal` is a bound on the figures, if there is one.
pub fn svg(title: &str, unit: &str, series: &[(String, &Figures)], goal: Option<f64>) -> String {
    let all = series.iter().flat_map(|(_, figures)| figures.values().iter().copied());
    let most = all.chain(goal).fold(0.0, f64::max).max(f64::MIN_POSITIVE) * 1.05;
    let x = |figure: f64| LEFT + (RIGHT - LEFT) * figure / most;
    let bottom = TOP + LINE * series.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"22\" font-weight=\"bold\">{}, {unit}</text>\n",
        bottom + 34.0,
        escaped(title),
    );
    for part in 0..=4 {
        let figure = most * f64::from(part) / 4.0;
        let _ = writeln!(
            out,
            "<path d=\"M{0:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\" fill=\"#666\">{2}</text>",
            x(figure),
            bottom + 18.0,
            rounded(figure),
        );
    }
    if let Some(goal) = goal {
        let _ = writeln!(
            out,
            "<path d=\"M{0:.1} {TOP}V{bottom}\" stroke=\"#c60\" stroke-dasharray=\"4 3\"/>\
             <text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\" fill=\"#c60\">goal</text>",
            x(goal),
            TOP - 5.0,
        );
    }
    for ((name, figures), at) in series.iter().zip(0..) {
        let y = TOP + LINE * (f64::from(at) + 0.5);
        let _ = writeln!(out, "<text x=\"12\" y=\"{:.1}\">{}</text>", y + 4.0, escaped(name));
        for figure in figures.values() {
            let _ = writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#37c\" fill-opacity=\"0.5\"/>",
                x(*figure)
            );
        }
        let _ = writeln!(
            out,
            "<path d=\"M{:.1} {:.1}v18\" stroke=\"#124\" stroke-width=\"2.5\"/>",
            x(figures.median()),
            y - 9.0
        );
    }
    out.push_str("</svg>\n");
    out
}

/// With as many digits as a reader can use.
fn rounded(figure: f64) -> String {
    if figure >= 10.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Memory;

    #[test]
    fn every_run_has_a_dot_within_the_plot() {
        let mut figures = Figures::default();
        [3.0, 500.0, 7.0].into_iter().for_each(|figure| figures.add(figure, Memory::default()));
        let image = svg("a < b", "in ms", &[("one".to_owned(), &figures)], Some(900.0));
        assert!(image.contains("a &lt; b, in ms"));
        let at = image.split("cx=\"").skip(1).filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok());
        let at: Vec<f64> = at.collect();
        assert_eq!(at.len(), 3);
        assert!(at.iter().all(|x| (LEFT..=RIGHT).contains(x)), "{at:?}");
    }
}
