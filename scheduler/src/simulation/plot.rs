//! What came out of a simulation, as a picture in SVG.
//!
//! From above: who held how much, as stacked areas, with the borders where fair shares would have them; how much of
//! each resource was in use; and how long each job waited for its first task. The colours are those of Okabe and Ito,
//! which people who see few colours can tell apart, too.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{Outcome, QueueOutcome};
use super::units::words;
use crate::core::Millis;

/// Queues with an area of their own; the rest is drawn as one.
const MOST_QUEUES: usize = 7;

pub(super) const COLOURS: [RGBColor; MOST_QUEUES] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(120, 94, 60),
];
const REST: RGBColor = RGBColor(170, 170, 170);
pub(super) const INK: RGBColor = RGBColor(40, 40, 40);
pub(super) const FAINT: RGBColor = RGBColor(225, 225, 225);

const SIZE: (u32, u32) = (1200, 900);
/// Left of the panels, for the labels of the axis.
const LEFT: u32 = 74;
/// Right of the panels, for names.
const RIGHT: u32 = 230;

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the picture cannot be drawn: {0}")]
pub struct PlotError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws what came out of a simulation.
///
/// # Errors
/// If a panel has no room, which does not happen in the size that is drawn.
pub fn svg(outcome: &Outcome) -> Result<String, PlotError> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = if outcome.title.is_empty() { "Simulation" } else { &outcome.title };
        root.draw_text(title, &font(24, &INK), (20, 16))?;
        let under = format!("{}, policy {}, seed {}", outcome.cluster, outcome.policy_name(), outcome.seed);
        root.draw_text(&under, &font(15, &INK.mix(0.75)), (20, 46))?;
        let (_, panels) = root.split_vertically(74);
        let (shares, panels) = panels.split_vertically(370);
        let (utilisation, waits) = panels.split_vertically(180);
        let bands = bands(outcome);
        draw_shares(&shares, outcome, &bands)?;
        draw_utilisation(&utilisation, outcome)?;
        draw_waits(&waits, outcome, &bands)?;
        root.present()?;
    }
    Ok(text)
}

/// A queue, or the rest of them, in the picture.
struct Band<'a> {
    name: String,
    colour: RGBColor,
    queues: Vec<&'a QueueOutcome>,
}

impl Band<'_> {
    fn share(&self, interval: usize) -> f64 {
        self.queues.iter().filter_map(|queue| queue.shares.get(interval)).sum()
    }

    fn fair_share(&self) -> f64 {
        self.queues.iter().map(|queue| queue.fair_share).sum()
    }
}

/// The queues that held most, in the order of the scenario, and the rest together.
fn bands(outcome: &Outcome) -> Vec<Band<'_>> {
    let held = |index: &usize| outcome.queues[*index].shares.iter().sum::<f64>();
    let mut by_size: Vec<_> = (0..outcome.queues.len()).collect();
    by_size.sort_by(|a, b| held(b).total_cmp(&held(a)));
    let (mut shown, mut rest) = (by_size, Vec::new());
    if shown.len() > MOST_QUEUES {
        rest = shown.split_off(MOST_QUEUES);
    }
    shown.sort_unstable();
    let mut bands: Vec<_> = shown
        .into_iter()
        .zip(COLOURS)
        .map(|(index, colour)| {
            let queue = &outcome.queues[index];
            Band { name: queue.path.clone(), colour, queues: vec![queue] }
        })
        .collect();
    if !rest.is_empty() {
        let queues: Vec<_> = rest.into_iter().map(|index| &outcome.queues[index]).collect();
        bands.push(Band { name: format!("{} others", queues.len()), colour: REST, queues });
    }
    bands
}

fn draw_shares(area: &Area<'_>, outcome: &Outcome, bands: &[Band<'_>]) -> Result<(), PlotError> {
    let intervals = bands.first().map_or(0, |band| band.queues[0].shares.len());
    let stack = |upto: usize, interval: usize| bands[..upto].iter().map(|band| band.share(interval)).sum::<f64>();
    let most = (0..intervals).map(|interval| stack(bands.len(), interval)).fold(1.0, f64::max);
    let (seconds, end) = (seconds_of(outcome), end_of(outcome));
    let mut chart = panel(area).build_cartesian_2d(times(end), 0.0..most * 1.02)?;
    mesh(&mut chart, "dominant share, stacked", 6, &|share| format!("{:.0}%", 100.0 * share))?;
    // From the back to the front, each over all of those before.
    for (index, band) in bands.iter().enumerate().rev() {
        let points = (0..intervals).map(|interval| (seconds(interval), stack(index + 1, interval)));
        chart.draw_series(AreaSeries::new(points, 0.0, band.colour.mix(0.85)).border_style(WHITE.stroke_width(1)))?;
        let below = (0..intervals).map(|interval| (seconds(interval), stack(index, interval)));
        chart.draw_series(AreaSeries::new(below, 0.0, WHITE))?;
    }
    let mut fair = 0.0;
    let mut places = Vec::new();
    for (index, band) in bands.iter().enumerate() {
        let middle = fair + band.fair_share() / 2.0;
        fair += band.fair_share();
        if index + 1 < bands.len() {
            let line = [(0.0, fair.min(most)), (end, fair.min(most))];
            chart.draw_series(DashedLineSeries::new(line, 7, 5, INK.stroke_width(2)))?;
        }
        places.push(chart.backend_coord(&(end, middle)).1);
    }
    for (band, y) in bands.iter().zip(apart(places, 38)) {
        let x = (SIZE.0 - RIGHT) as i32 + 14;
        let (_, top) = area.get_base_pixel();
        legend(area, (x, y - top - 9), &band.colour, &band.name)?;
        let share = format!("fair share {:.0}%", 100.0 * band.fair_share());
        area.draw_text(&share, &font(13, &INK.mix(0.75)), (x + 20, y - top + 9))?;
    }
    if bands.len() < 2 {
        return Ok(());
    }
    let x = (SIZE.0 - RIGHT) as i32 + 14;
    area.draw(&PathElement::new(vec![(x, 12), (x + 6, 12)], INK.stroke_width(2)))?;
    area.draw(&PathElement::new(vec![(x + 10, 12), (x + 16, 12)], INK.stroke_width(2)))?;
    area.draw_text("borders of fair shares", &font(13, &INK.mix(0.75)), (x + 22, 4))?;
    Ok(())
}

fn draw_utilisation(area: &Area<'_>, outcome: &Outcome) -> Result<(), PlotError> {
    let seconds = seconds_of(outcome);
    let mut chart = panel(area).build_cartesian_2d(times(end_of(outcome)), 0.0..1.05)?;
    mesh(&mut chart, "in use", 5, &|part| format!("{:.0}%", 100.0 * part))?;
    let colours = [INK, COLOURS[5], COLOURS[0], COLOURS[2], COLOURS[3], COLOURS[4]];
    for (index, ((kind, parts), colour)) in outcome.utilisation.iter().zip(colours).enumerate() {
        let points = parts.iter().enumerate().map(|(interval, part)| (seconds(interval), *part));
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        let all: f64 = parts.iter().sum::<f64>() / parts.len().max(1) as f64;
        let label = format!("{kind}, {:.0}% on average", 100.0 * all);
        legend(area, ((SIZE.0 - RIGHT) as i32 + 14, 16 + 24 * index as i32), &colour, &label)?;
    }
    Ok(())
}

fn draw_waits(area: &Area<'_>, outcome: &Outcome, bands: &[Band<'_>]) -> Result<(), PlotError> {
    /// Waits below this are drawn at it, because a logarithmic axis has no zero.
    const LEAST_S: f64 = 0.01;
    let jobs = bands.iter().flat_map(|band| &band.queues).flat_map(|queue| &queue.jobs);
    let waits = jobs.filter_map(|job| Some((job.first_task_ms? - job.arrived_ms) as f64 / 1_000.0));
    let most = waits.fold(1.0, f64::max) * 1.5;
    let end = end_of(outcome);
    let mut chart = panel(area).build_cartesian_2d(times(end), (LEAST_S..most).log_scale())?;
    mesh(&mut chart, "wait of a job for its first task", 8, &|s| words((s * 1_000.0).round() as Millis))?;
    let (_, bottom) = chart.backend_coord(&(0.0, LEAST_S));
    let at_once = font(13, &INK).pos(Pos::new(HPos::Right, VPos::Center));
    area.draw_text("at once", &at_once, (LEFT as i32 + 2, bottom - area.get_base_pixel().1))?;
    for (index, band) in bands.iter().enumerate() {
        for queue in &band.queues {
            let dots = queue.jobs.iter().filter_map(|job| {
                let wait = (job.first_task_ms? - job.arrived_ms) as f64 / 1_000.0;
                Some(Circle::new(
                    (job.arrived_ms as f64 / 1_000.0, wait.max(LEAST_S)),
                    3,
                    band.colour.mix(0.55).filled(),
                ))
            });
            chart.draw_series(dots)?;
        }
        let mut label = band.name.clone();
        if let [queue] = band.queues[..]
            && let Some(waits) = queue.waits()
        {
            let p95 = (waits.p95_ms as f64 / 1_000.0).max(LEAST_S);
            chart.draw_series(DashedLineSeries::new([(0.0, p95), (end, p95)], 9, 4, band.colour.stroke_width(2)))?;
            label = format!("{label}: p95 {}", words(waits.p95_ms));
        }
        legend(area, ((SIZE.0 - RIGHT) as i32 + 14, 16 + 24 * index as i32), &band.colour, &label)?;
    }
    Ok(())
}

/// The middle of each interval, in seconds.
fn seconds_of(outcome: &Outcome) -> impl Fn(usize) -> f64 {
    let (interval_ms, duration_ms) = (outcome.interval_ms, outcome.duration_ms);
    move |interval| {
        let start_ms = interval as Millis * interval_ms;
        (start_ms + (start_ms + interval_ms).min(duration_ms)) as f64 / 2_000.0
    }
}

fn end_of(outcome: &Outcome) -> f64 {
    outcome.duration_ms as f64 / 1_000.0
}

fn panel<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin_top(10).margin_left(12).margin_right(RIGHT).set_label_area_size(LabelAreaPosition::Left, LEFT);
    builder.set_label_area_size(LabelAreaPosition::Bottom, 34);
    builder
}

/// An axis of time in seconds, with marks at moments that people count in.
struct Times {
    end: f64,
    step: f64,
}

fn times(end: f64) -> Times {
    const MOST_MARKS: f64 = 12.0;
    const STEPS: [f64; 16] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0,
        86_400.0,
    ];
    let step = STEPS.into_iter().find(|step| end / step <= MOST_MARKS).unwrap_or(end / MOST_MARKS);
    Times { end, step }
}

impl Ranged for Times {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * value / self.end).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        (0..=(self.end / self.step) as usize).map(|mark| mark as f64 * self.step).collect()
    }

    fn range(&self) -> Range<f64> {
        0.0..self.end
    }
}

fn mesh<'a, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'_>, Cartesian2d<Times, Y>>,
    label: &str,
    labels: usize,
    format: &dyn Fn(&f64) -> String,
) -> Result<(), PlotError>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .x_labels(20)
        .y_labels(labels)
        .x_desc("")
        .y_desc(label)
        .axis_desc_style(font(14, &INK))
        .label_style(font(13, &INK))
        .x_label_formatter(&|s| if *s == 0.0 { "0".to_owned() } else { words((s * 1_000.0) as Millis) })
        .y_label_formatter(format)
        .draw()?;
    Ok(())
}

pub(super) fn legend(area: &Area<'_>, (x, y): (i32, i32), colour: &RGBColor, text: &str) -> Result<(), PlotError> {
    area.draw(&Rectangle::new([(x, y + 2), (x + 13, y + 15)], colour.filled()))?;
    area.draw_text(text, &font(14, &INK), (x + 20, y + 2))?;
    Ok(())
}

pub(super) fn font<'a>(size: u32, colour: &impl Color) -> TextStyle<'a> {
    ("sans-serif", size).into_font().color(colour).pos(Pos::new(HPos::Left, VPos::Top))
}

/// Moves labels up or down until there is so much between any two.
fn apart(mut places: Vec<i32>, distance: i32) -> Vec<i32> {
    // The stack grows upwards, so that later labels are higher up.
    for index in 1..places.len() {
        places[index] = places[index].min(places[index - 1] - distance);
    }
    places
}
