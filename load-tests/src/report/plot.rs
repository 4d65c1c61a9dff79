//! Plots as SVG, drawn into the page.

use anyhow::anyhow;
use plotters::{
    prelude::{ChartBuilder, Color, IntoDrawingArea, LineSeries, PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE},
    style::{BLACK, IntoFont},
};

/// One line of a plot.
pub(crate) struct Line {
    /// Its name.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (920, 260);
const COLORS: [RGBColor; 6] = [
    RGBColor(31, 90, 166),
    RGBColor(201, 87, 31),
    RGBColor(44, 128, 76),
    RGBColor(132, 66, 140),
    RGBColor(120, 120, 120),
    RGBColor(180, 140, 20),
];

/// A plot of lines. With `logarithmic`, the values are on a logarithmic scale.
///
/// # Errors
/// It cannot be drawn.
pub(crate) fn lines(labels: (&str, &str), lines: &[Line], logarithmic: bool) -> anyhow::Result<String> {
    let mut svg = String::new();
    draw(&mut svg, labels, lines, logarithmic).map_err(|error| anyhow!("drawing a plot: {error}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, labels: (&str, &str), lines: &[Line], logarithmic: bool) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (left, right) = points().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| (low.min(x), high.max(x)));
    let (low, high) = points().fold((f64::MAX, f64::MIN), |(low, high), (_, y)| (low.min(y), high.max(y)));
    if left > right {
        return Ok(());
    }
    let right = if right > left { right } else { left + 1.0 };
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area);
    chart.margin(10).x_label_area_size(34).y_label_area_size(64);
    macro_rules! chart {
        ($values:expr) => {{
            let mut chart = chart.build_cartesian_2d(left..right, $values)?;
            chart
                .configure_mesh()
                .x_desc(labels.0)
                .y_desc(labels.1)
                .light_line_style(BLACK.mix(0.05))
                .bold_line_style(BLACK.mix(0.12))
                .draw()?;
            for (number, line) in lines.iter().enumerate() {
                let color = COLORS[number % COLORS.len()];
                chart
                    .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?
                    .label(line.name.clone())
                    .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], color.stroke_width(2)));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.2))
                .label_font(("sans-serif", 12).into_font())
                .draw()?;
        }};
    }
    if logarithmic {
        let low = low.max(1e-3);
        chart!(plotters::coord::combinators::IntoLogRange::log_scale(low * 0.8..(high * 1.25).max(low * 2.0)));
    } else {
        chart!(low.min(0.0)..if high > 0.0 { high * 1.1 } else { 1.0 });
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_an_svg_with_its_lines_and_none_without_points() {
        let line = |name: &str, points: Vec<(f64, f64)>| Line { name: name.into(), points };
        for logarithmic in [false, true] {
            let both = [line("first", vec![(0.0, 1.0), (1.0, 30.0)]), line("second", vec![(0.0, 2.0), (1.0, 0.0)])];
            let svg = lines(("s", "ms"), &both, logarithmic).expect("drawn");
            assert!(svg.starts_with("<svg") && svg.contains("first") && svg.contains("second"), "{svg}");
            assert!(svg.matches("<polyline").count() >= 2);
        }
        assert_eq!(lines(("s", "ms"), &[line("none", vec![])], false).expect("nothing"), "");
        assert!(lines(("s", "ms"), &[line("one", vec![(3.0, 0.0)])], true).is_ok());
    }
}
