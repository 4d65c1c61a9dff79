//! What every partition of every processor measures.

use std::time::Duration;

use opentelemetry::metrics::{Counter, Gauge, Histogram};
use opentelemetry::{KeyValue, global};

/// Upper bounds of a batch's records.
const BATCH_BOUNDARIES: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0];

/// Upper bounds of a write, in seconds.
const WRITE_BOUNDARIES: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The instruments of one partition, for as long as this process owns it.
#[derive(Debug)]
pub struct ProcessorMetrics {
    /// Labels of what only this partition can say.
    partition: [KeyValue; 2],
    /// Labels of what is counted over all partitions.
    processor: [KeyValue; 1],
    lag_records: Gauge<u64>,
    lag_seconds: Gauge<f64>,
    batch_size: Histogram<u64>,
    write_time: Histogram<f64>,
    applied: Counter<u64>,
    skipped: Counter<u64>,
    parked: Counter<u64>,
    duplicates: Counter<u64>,
}

impl ProcessorMetrics {
    /// Records to the global meter, for a partition that this process now owns.
    pub fn new(processor: &'static str, partition: u32) -> Self {
        let meter = global::meter("plaza.processor");
        let counter = |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
        let processor = KeyValue::new("processor", processor);
        Self {
            partition: [processor.clone(), KeyValue::new("partition", i64::from(partition))],
            processor: [processor],
            lag_records: meter.u64_gauge("plaza_processor_lag_records").with_description("records not applied yet").build(),
            lag_seconds: meter.f64_gauge("plaza_processor_lag_seconds").with_description("age of the next record to apply").build(),
            batch_size: meter
                .u64_histogram("plaza_processor_batch_records")
                .with_description("records in a batch")
                .with_boundaries(BATCH_BOUNDARIES.to_vec())
                .build(),
            write_time: meter
                .f64_histogram("plaza_processor_write_seconds")
                .with_description("time to write what follows from a batch")
                .with_boundaries(WRITE_BOUNDARIES.to_vec())
                .build(),
            applied: counter("plaza_processor_records_applied", "records applied"),
            skipped: counter("plaza_processor_records_skipped", "records applied before and skipped on replay"),
            parked: counter("plaza_processor_records_parked", "records that could not be applied"),
            duplicates: counter("plaza_processor_duplicates_dropped", "emissions that came again and were dropped"),
        }
    }

    /// How far behind the log the partition is: records not applied, and the age of the next of them (zero when there is none).
    pub fn lag(&self, records: u64, age: Duration) {
        self.lag_records.record(records, &self.partition);
        self.lag_seconds.record(age.as_secs_f64(), &self.partition);
    }

    /// A batch of so many records was read.
    pub fn batch(&self, records: usize) {
        self.batch_size.record(records as u64, &self.processor);
    }

    /// What follows from a batch was written.
    pub fn written(&self, took: Duration) {
        self.write_time.record(took.as_secs_f64(), &self.processor);
    }

    /// So many records were applied.
    pub fn applied(&self, records: u64) {
        count(&self.applied, records, &self.processor);
    }

    /// So many records had been applied before.
    pub fn skipped(&self, records: u64) {
        count(&self.skipped, records, &self.processor);
    }

    /// A record could not be applied and was put aside.
    pub fn parked(&self) {
        count(&self.parked, 1, &self.processor);
    }

    /// So many emissions had come before.
    pub fn duplicates(&self, records: u64) {
        count(&self.duplicates, records, &self.processor);
    }
}

impl Drop for ProcessorMetrics {
    fn drop(&mut self) {
        // A gauge keeps its last value: the partition's next owner reports its lag, not this process for ever.
        self.lag(0, Duration::ZERO);
    }
}

fn count(counter: &Counter<u64>, records: u64, labels: &[KeyValue]) {
    if records > 0 {
        counter.add(records, labels);
    }
}
