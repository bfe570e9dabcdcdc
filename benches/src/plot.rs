//! Plots, as SVG.

use std::{error::Error, path::Path};

use plotters::prelude::*;

use crate::report::Report;

const SIZE: (u32, u32) = (800, 420);
const COLOURS: [RGBColor; 4] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
];

/// Draws everything into this directory.
///
/// # Errors
///
/// When it cannot be written to.
pub fn plots(report: &Report, directory: &Path) -> Result<(), Box<dyn Error>> {
    for workload in ["A", "B"] {
        bars(report, workload, &directory.join(format!("{workload}.svg")))?;
    }
    let by_nodes = "A from 1 to 9 nodes: the client's CPU per cycle and node, µs";
    lines(report, "A", by_nodes, &directory.join("growth-nodes.svg"))?;
    let by_tasks =
        "B, five nodes, 1 to 10,000 resources at once: the client's CPU per cycle and node, µs";
    lines(
        report,
        "B",
        by_tasks,
        &directory.join("growth-resources.svg"),
    )
}

/// Cycles per second of all contenders on five nodes, with the quartiles.
fn bars(report: &Report, workload: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let all = report.cycles.iter();
    // In memory there is nothing to compare.
    let all = all.filter(|it| it.workload == workload && it.nodes == 5 && it.contender != "memory");
    let mut all: Vec<_> = all.collect();
    all.sort_by(|a, b| a.rate.median.total_cmp(&b.rate.median));
    let most = all.iter().map(|it| it.rate.high).fold(1.0, f64::max);

    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let names: Vec<_> = all.iter().map(|it| it.contender).collect();
    let mut chart = ChartBuilder::on(&root)
        .caption(
            format!("{workload}, five nodes: cycles per second"),
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(120)
        .build_cartesian_2d(0.0..most * 1.05, (0..names.len()).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_label_formatter(&|at| match at {
            SegmentValue::CenterOf(at) => names.get(*at).copied().unwrap_or_default().to_owned(),
            _ => String::new(),
        })
        .draw()?;
    for (at, it) in all.iter().enumerate() {
        let ours = ["ours", "fred"].contains(&it.contender);
        let colour = COLOURS[usize::from(!ours)].mix(0.8).filled();
        let corners = [
            (0.0, SegmentValue::Exact(at)),
            (it.rate.median, SegmentValue::Exact(at + 1)),
        ];
        let mut bar = Rectangle::new(corners, colour);
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
        let quartiles = [it.rate.low, it.rate.high].map(|rate| (rate, SegmentValue::CenterOf(at)));
        chart.draw_series([PathElement::new(quartiles.to_vec(), BLACK.stroke_width(2))])?;
    }
    root.present()?;
    Ok(())
}

/// The cost per cycle and node of each contender, over whatever grows.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn lines(
    report: &Report,
    workload: &str,
    caption: &str,
    path: &Path,
) -> Result<(), Box<dyn Error>> {
    let all = report.growth.iter().filter(|it| it.workload == workload);
    let x = |nodes: usize, tasks: usize| if workload == "A" { nodes } else { tasks } as f64;
    let points = all.map(|it| (it.contender, (x(it.nodes, it.tasks), it.cpu_us_per_node())));
    let points: Vec<_> = points.collect();
    let (mut right, mut top) = (1.0_f64, 1.0_f64);
    for (_, (x, y)) in &points {
        (right, top) = (right.max(*x), top.max(*y));
    }
    let mut names: Vec<_> = points.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();

    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(&root);
    builder
        .caption(caption, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(48);
    let series = |name: &str| {
        let its = points.iter().filter(|(whose, _)| *whose == name);
        its.map(|(_, point)| *point).collect::<Vec<_>>()
    };
    macro_rules! draw {
        ($horizontal:expr) => {{
            let mut chart = builder.build_cartesian_2d($horizontal, 0.0..top * 1.1)?;
            chart.configure_mesh().draw()?;
            for (name, colour) in names.iter().zip(COLOURS.iter().cycle()) {
                let its = series(name);
                chart
                    .draw_series(LineSeries::new(its, colour.stroke_width(2)).point_size(3))?
                    .label(*name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], *colour));
            }
            chart
                .configure_series_labels()
                .border_style(BLACK)
                .background_style(WHITE)
                .draw()?;
        }};
    }
    if workload == "A" {
        draw!(0.0..right + 0.5);
    } else {
        draw!((1.0..right * 1.2).log_scale());
    }
    root.present()?;
    Ok(())
}
