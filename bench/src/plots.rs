//! Plots of a run, as SVG.

use std::error::Error;

use plotters::prelude::*;

use crate::{
    http::GROWING,
    results::{PacedRun, Results, Sample},
    spread::digits,
};

const SIZE: (u32, u32) = (760, 420);

/// Colours that people who see fewer of them tell apart too (Okabe and Ito).
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);

const CAPTION: (&str, u32) = ("sans-serif", 18);
const LABELS: (&str, u32) = ("sans-serif", 14);

/// What can go wrong: plotting writes to memory, so nothing but a scale that is none.
type Plot = Result<String, Box<dyn Error>>;

/// What each plot is called, what it shows, and the plot itself.
pub(crate) fn all(results: &Results) -> Result<[(&'static str, &'static str, String); 3], String> {
    let plots = || -> Result<_, Box<dyn Error>> {
        Ok([
            ("cpu", "CPU time per request", cpu(results)?),
            ("growth", "Requests and store operations", growth(results)?),
            ("latency", "Latency at a fixed rate", latency(results)?),
        ])
    };
    plots().map_err(|error| format!("a plot: {error}"))
}

/// Bars: CPU time per request of the services and their peers.
fn cpu(results: &Results) -> Plot {
    let candidates = [
        "naive chain",
        "haproxy",
        "nginx proxy",
        "chain",
        "file",
        "memory",
        "hello",
        "nginx",
        "actix-web",
        "floor",
    ];
    let spent = |candidate, connections| {
        let spread = results.spread(candidate, connections, |s| s.cpu_us);
        spread.map_or(0.0, |spread| spread.median)
    };
    // Connections, colour, and where in its row a bar is.
    let series = [(32, BLUE, 0.02), (256, ORANGE, -0.38)];
    let most = candidates.map(|c| spent(c, 32).max(spent(c, 256)));
    let most = most.into_iter().fold(1.0, f64::max);

    let mut text = String::new();
    let area = area(&mut text)?;
    // A whole number is the middle of a row.
    let rows = -0.5..candidates.len() as f64 - 0.5;
    let mut chart = ChartBuilder::on(&area)
        .caption("CPU time per request, µs (less is better)", CAPTION)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(28)
        .y_label_area_size(96)
        .build_cartesian_2d(0.0..most * 1.1, rows)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(LABELS)
        .y_labels(candidates.len())
        .y_label_formatter(&|row| candidates[*row as usize].to_owned())
        .draw()?;
    for (connections, colour, bottom) in series {
        let bars = candidates.iter().enumerate();
        let bars = bars.map(|(row, name)| (spent(name, connections), row as f64 + bottom));
        let rectangles = bars.clone().map(|(end, bottom)| {
            Rectangle::new([(0.0, bottom), (end, bottom + 0.36)], colour.filled())
        });
        chart
            .draw_series(rectangles)?
            .label(format!("{connections} connections"))
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], colour.filled()));
        chart.draw_series(bars.map(|(end, bottom)| {
            let place = (end + most * 0.008, bottom + 0.3);
            Text::new(digits(end), place, ("sans-serif", 12))
        }))?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(text)
}

/// Lines: requests and operations on the store, from one client to many.
fn growth(results: &Results) -> Plot {
    let line = |of: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        let points = GROWING.iter().filter_map(|connections| {
            let spread = results.spread("file, growing", *connections, of)?;
            Some((f64::from(*connections), spread.median))
        });
        points.collect()
    };
    let lines = [
        ("requests", BLUE, line(|s| s.per_second)),
        ("operations on the store", ORANGE, line(Sample::operations)),
    ];
    let most = lines.iter().flat_map(|(_, _, points)| points);
    let most = most.map(|point| point.1).fold(1.0, f64::max);

    let mut text = String::new();
    let area = area(&mut text)?;
    let last = GROWING.map(f64::from).into_iter().fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption("persistence_server on file, per second", CAPTION)
        .margin(12)
        .margin_right(28)
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (1.0..last)
                .log_scale()
                .with_key_points(GROWING.map(f64::from).to_vec()),
            0.0..most * 1.1,
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(LABELS)
        .x_desc("connections")
        .x_label_formatter(&|connections| format!("{connections:.0}"))
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .draw()?;
    for (name, colour, points) in lines {
        let dots = points.clone().into_iter();
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(3)));
        chart.draw_series(dots.map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(text)
}

/// Lines: percentiles of the latency at each rate that was kept.
fn latency(results: &Results) -> Plot {
    const PERCENTILES: [&str; 4] = ["p50", "p90", "p99", "p99.9"];

    let runs = results.paced_runs();
    let runs: Vec<&PacedRun<'_>> = runs.iter().filter(|run| run.kept_the_rate).collect();
    let all = runs.iter().flat_map(|run| run.percentiles_ms);
    let all = all.map(|spread| spread.median);
    let (least, most) = all.fold((1.0_f64, 1.0_f64), |(least, most), ms| {
        (least.min(ms), most.max(ms))
    });

    let mut text = String::new();
    let area = area(&mut text)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "Latency at a fixed rate of requests, 64 connections, ms",
            CAPTION,
        )
        .margin(12)
        .margin_right(28)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(
            0..PERCENTILES.len() - 1,
            (least * 0.5..most * 1.25).log_scale(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(LABELS)
        .x_label_formatter(&|place| PERCENTILES[*place].to_owned())
        .y_label_formatter(&|ms| format!("{ms}"))
        .draw()?;
    for run in runs {
        let colour = match run.candidate {
            "hello" => BLUE,
            "chain" => ORANGE,
            _ => GREEN,
        };
        // The heavier load has the heavier line.
        let style = colour.stroke_width(if run.load > 50 { 3 } else { 1 });
        let points = run.percentiles_ms.map(|spread| spread.median);
        let points = (0..).zip(points);
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(format!("{} at {} % of capacity", run.candidate, run.load))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(text)
}

/// Says what the bars or lines are.
fn legend<'a, X: Ranged, Y: Ranged>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    position: SeriesLabelPosition,
) -> Result<(), Box<dyn Error>> {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.8))
        .label_font(LABELS)
        .draw()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// White, so that it can be read on a dark page too.
fn area(text: &mut String) -> Result<Area<'_>, Box<dyn Error>> {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}
