//! The plots of the README.

use std::{error::Error, path::Path};

use plotters::{coord::Shift, prelude::*};

use crate::{
    grid::{Row, SHOWN},
    judge::answers,
    limiter::Scheme,
    traffic::{Request, Traffic},
};

type Drawn = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
const FAINT: RGBColor = RGBColor(225, 225, 225);
const LIMIT_LINE: RGBColor = RGBColor(0, 0, 0);

/// Traffics of the first plot: the windows that are drawn, and how high they get in percent of the limit.
const PANELS: [(Traffic, f64, f64); 3] =
    [(Traffic::EdgeBursts, 0.0, 6.0), (Traffic::Sawtooth, 0.0, 6.0), (Traffic::FlashCrowd, 1.5, 5.0)];

/// Points of a curve.
const SAMPLES: u32 = 450;

/// Colours that people who see few of them can tell apart too (Okabe and Ito's), and the widths of lines.
fn style(scheme: Scheme) -> (RGBColor, u32) {
    match scheme {
        Scheme::FixedWindow => (RGBColor(213, 94, 0), 2),
        Scheme::WeightedCounter => (RGBColor(230, 159, 0), 2),
        Scheme::Gcra => (RGBColor(204, 121, 167), 2),
        // Under ours, with which it nearly coincides.
        Scheme::PlainLog => (RGBColor(150, 150, 150), 5),
        Scheme::Slidegate => (RGBColor(0, 114, 178), 2),
    }
}

/// What each limiter had admitted in the last window, over time.
pub(crate) fn last_window(file: &Path) -> Drawn {
    let root = canvas(file, 1_000, 960)?;
    let (head, body) = root.split_vertically(70);
    title(&head, "Admitted in the last minute, by the true time", "limit: 1,000 in a minute; time in minutes")?;
    legend(&head, 44)?;
    for (area, (traffic, from, to)) in body.split_evenly((PANELS.len(), 1)).iter().zip(PANELS) {
        panel(area, traffic, from, to)?;
    }
    root.present()?;
    Ok(())
}

fn panel(area: &Area<'_>, traffic: Traffic, from: f64, to: f64) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .caption(traffic.name(), (FONT, 21).into_font().color(&INK))
        .margin_left(10)
        .margin_right(30)
        .margin_bottom(6)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(from..to, 0.0..215.0)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .y_labels(5)
        .x_labels(7)
        .y_label_formatter(&|percent| format!("{percent:.0} %"))
        .x_label_formatter(&|minutes| format!("{minutes:.1}"))
        .label_style((FONT, 17).into_font().color(&INK))
        .axis_style(INK)
        .draw()?;
    let requests = traffic.requests(&SHOWN).ok_or("every traffic is run at the limit that is shown")?;
    for scheme in Scheme::ALL {
        let (colour, width) = style(scheme);
        chart.draw_series(LineSeries::new(curve(scheme, &requests, from, to), colour.stroke_width(width)))?;
    }
    chart.draw_series(LineSeries::new([(from, 100.0), (to, 100.0)], LIMIT_LINE.stroke_width(1)))?;
    Ok(())
}

/// Percent of the limit admitted in the window that ends at each of many instants.
fn curve(scheme: Scheme, requests: &[Request], from: f64, to: f64) -> Vec<(f64, f64)> {
    let answers = answers(scheme, SHOWN, requests);
    let admitted: Vec<&Request> =
        requests.iter().zip(&answers).filter(|(_, answer)| answer.admitted).map(|(request, _)| request).collect();
    let sample = |n: u32| {
        let windows = from + (to - from) * f64::from(n) / f64::from(SAMPLES);
        let until_us = SHOWN.at(windows);
        let since_us = until_us - SHOWN.window_us;
        let within = |before_us: u64| admitted.partition_point(|request| request.at_us <= before_us);
        let cost: u64 = admitted[within(since_us)..within(until_us)].iter().map(|request| request.cost).sum();
        (windows, 100.0 * cost as f64 / SHOWN.limit as f64)
    };
    (0..=SAMPLES).map(sample).collect()
}

/// The fullest window of each limiter under each traffic.
pub(crate) fn over_admission(file: &Path, rows: &[Row]) -> Drawn {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.limit == SHOWN).collect();
    let root = canvas(file, 1_000, 470)?;
    let (head, body) = root.split_vertically(76);
    title(&head, "Over-admission", "the fullest window of all, above the limit; 1,000 in a minute")?;
    legend(&head, 44)?;
    let mut chart = ChartBuilder::on(&body)
        .margin_left(10)
        .margin_right(20)
        .margin_top(14)
        .x_label_area_size(34)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..rows.len() as f64, 0.0..110.0)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .y_labels(6)
        .y_label_formatter(&|percent| format!("{percent:.0} %"))
        .label_style((FONT, 17).into_font().color(&INK))
        .axis_style(INK)
        .draw()?;
    for (group, row) in rows.iter().enumerate() {
        for (place, scheme) in Scheme::ALL.into_iter().enumerate() {
            let percent = row.outcome(scheme).excess_percent(SHOWN.limit);
            let left = group as f64 + 0.1 + 0.16 * place as f64;
            let (colour, _) = style(scheme);
            chart.draw_series([Rectangle::new([(left, 0.0), (left + 0.145, percent)], colour.filled())])?;
            let is_small = percent > 0.0 && percent < 1.0;
            let (text, size) = if is_small { (format!("{percent:.1}"), 11) } else { (format!("{percent:.0}"), 15) };
            chart.draw_series([Text::new(text, (left + 0.0725, percent + 5.0), centred(size, colour))])?;
        }
        let (x, y) = chart.plotting_area().map_coordinate(&(group as f64 + 0.5, 0.0));
        root.draw(&Text::new(row.traffic.name(), (x, y + 18), centred(17, INK)))?;
    }
    root.present()?;
    Ok(())
}

/// What a key takes at each limit.
pub(crate) fn memory(file: &Path, bytes: &[(u64, [u64; 5])]) -> Drawn {
    let root = canvas(file, 1_000, 500)?;
    let (head, body) = root.split_vertically(76);
    title(&head, "Memory of a key in Redis", "bytes, by the limit")?;
    legend(&head, 44)?;
    let mut chart = ChartBuilder::on(&body)
        .margin_left(10)
        .margin_right(40)
        .margin_top(10)
        .margin_bottom(6)
        .x_label_area_size(34)
        .y_label_area_size(100)
        .build_cartesian_2d((10.0..100_000.0).log_scale(), (50.0..30_000_000.0).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .x_labels(5)
        .y_labels(7)
        .x_label_formatter(&|limit| grouped(*limit))
        .y_label_formatter(&|bytes| grouped(*bytes))
        .label_style((FONT, 17).into_font().color(&INK))
        .axis_style(INK)
        .draw()?;
    for (place, scheme) in Scheme::ALL.into_iter().enumerate() {
        let (colour, _) = style(scheme);
        let points: Vec<(f64, f64)> = bytes.iter().map(|(limit, bytes)| (*limit as f64, bytes[place] as f64)).collect();
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(3)))?;
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 4, colour.filled())))?;
    }
    root.present()?;
    Ok(())
}

fn grouped(value: f64) -> String {
    crate::table::thousands(value.round() as u64)
}

fn canvas(file: &Path, width: u32, height: u32) -> Result<Area<'_>, Box<dyn Error>> {
    let root = SVGBackend::new(file, (width, height)).into_drawing_area();
    root.fill(&WHITE)?;
    Ok(root)
}

fn title(area: &Area<'_>, title: &str, subtitle: &str) -> Drawn {
    area.draw(&Text::new(title.to_owned(), (16, 12), (FONT, 27).into_font().color(&INK)))?;
    let beside = 16 + title.chars().count() as i32 * 11 + 36;
    area.draw(&Text::new(subtitle.to_owned(), (beside, 18), (FONT, 18).into_font().color(&INK)))?;
    Ok(())
}

/// A row of names, each behind a patch of its colour.
fn legend(area: &Area<'_>, top: i32) -> Drawn {
    let mut left = 80;
    for scheme in Scheme::ALL {
        let (colour, _) = style(scheme);
        area.draw(&Rectangle::new([(left, top + 3), (left + 26, top + 13)], colour.filled()))?;
        area.draw(&Text::new(scheme.name(), (left + 34, top), (FONT, 19).into_font().color(&INK)))?;
        left += 34 + scheme.name().len() as i32 * 9 + 36;
    }
    Ok(())
}

fn centred(size: i32, colour: RGBColor) -> TextStyle<'static> {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    (FONT, size).into_font().color(&colour).pos(Pos::new(HPos::Center, VPos::Center))
}
