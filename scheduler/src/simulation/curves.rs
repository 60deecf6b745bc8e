//! Measurements that grow with something, as a picture: panels side by side, both axes logarithmic.

use plotters::prelude::*;

use super::plot::{COLOURS, FAINT, INK, PlotError, font, legend};

const SIZE: (u32, u32) = (1200, 480);

/// A line through measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What was measured.
    pub name: String,
    /// At what size, and how much; both above zero.
    pub points: Vec<(f64, f64)>,
}

/// Curves that are measured in the same unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What is shown, with the unit.
    pub title: String,
    /// What should not be exceeded, drawn as a dashed line.
    pub bound: f64,
    /// The curves, at most as many as there are colours (7).
    pub curves: Vec<Curve>,
}

/// Draws the panels next to each other over the same sizes.
///
/// # Errors
/// If there is nothing to draw, or a panel has no room.
pub fn curves(title: &str, size_label: &str, panels: &[Panel]) -> Result<String, PlotError> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        root.draw_text(title, &font(22, &INK), (20, 16))?;
        let (_, below) = root.split_vertically(52);
        for (area, panel) in below.split_evenly((1, panels.len().max(1))).iter().zip(panels) {
            let (head, body) = area.split_vertically(34 + 22 * panel.curves.len() as i32);
            head.draw_text(&panel.title, &font(16, &INK), (74, 2))?;
            let points = || panel.curves.iter().flat_map(|curve| curve.points.iter().copied());
            let (least_size, most_size) = extent(points().map(|(size, _)| size));
            let (least, most) = extent(points().map(|(_, value)| value).chain([panel.bound]));
            let sizes = (least_size / 1.15..most_size * 1.15).log_scale();
            let mut marks: Vec<_> = points().map(|(size, _)| size).collect();
            marks.sort_by(f64::total_cmp);
            marks.dedup();
            let sizes = sizes.with_key_points(marks);
            let values = (least / 1.6..most * 1.6).log_scale().with_key_points(round_numbers(least / 1.6, most * 1.6));
            let mut builder = ChartBuilder::on(&body);
            builder.margin(10).margin_right(30).set_label_area_size(LabelAreaPosition::Left, 64);
            builder.set_label_area_size(LabelAreaPosition::Bottom, 46);
            let mut chart = builder.build_cartesian_2d(sizes, values)?;
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(FAINT)
                .axis_style(INK)
                .x_desc(size_label)
                .axis_desc_style(font(14, &INK))
                .label_style(font(13, &INK))
                .x_label_formatter(&|size| thousands(*size))
                .y_label_formatter(&|value| thousands(*value))
                .draw()?;
            let bound = [(least_size / 1.15, panel.bound), (most_size * 1.15, panel.bound)];
            chart.draw_series(DashedLineSeries::new(bound, 7, 5, INK.stroke_width(2)))?;
            for (index, (curve, colour)) in panel.curves.iter().zip(COLOURS).enumerate() {
                chart.draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)))?;
                let dots = curve.points.iter().map(|point| Circle::new(*point, 4, colour.filled()));
                chart.draw_series(dots)?;
                legend(&head, (74, 26 + 22 * index as i32), &colour, &curve.name)?;
            }
        }
        root.present()?;
    }
    Ok(text)
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let positive = values.filter(|value| *value > 0.0);
    let (least, most) = positive.fold((f64::INFINITY, 0.0), |(a, b), value| (value.min(a), value.max(b)));
    if least <= most { (least, most) } else { (1.0, 1.0) }
}

/// 1, 2 and 5 times the powers of ten in between.
fn round_numbers(least: f64, most: f64) -> Vec<f64> {
    let powers = (least.log10().floor() as i32..=most.log10().ceil() as i32).map(|power| 10f64.powi(power));
    let numbers = powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]);
    numbers.filter(|number| (least..=most).contains(number)).collect()
}

fn thousands(value: f64) -> String {
    if value < 1_000.0 {
        return format!("{}", (value * 1_000.0).round() / 1_000.0);
    }
    let (whole, rest) = ((value / 1_000.0) as u64, value as u64 % 1_000);
    format!("{whole},{rest:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_write_them() {
        assert_eq!([0.5, 20.0, 500.0, 50_000.0].map(thousands), ["0.5", "20", "500", "50,000"]);
        assert_eq!(round_numbers(0.4, 12.0), [0.5, 1.0, 2.0, 5.0, 10.0]);
    }
}
