//! A broker that asks who its clients are.

use plaza_event_log::{Error, EventLog as _, Topic, TopicPartition};
use plaza_event_log_kafka::{Config, KafkaLog, Security, TopicSpec, admin};
use plaza_runtime::config::Secret;

use crate::places::{Cluster, record};

const TOPIC: Topic = Topic("topic");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_knows_the_password_is_heard_and_it_is_never_told() {
    let Some([user, password, address]) = plaza_testkit::external::kafka_with_password() else { return };
    let Some(mut cluster) = Cluster::with(&[(TOPIC, 1)]).await else { return };
    cluster.config.brokers = address;
    let security = &mut cluster.config.security;
    (security.mechanism, security.user, security.password) = ("PLAIN".to_owned(), user, Secret::new(password.as_str()));
    let log = cluster.open().await;
    let partition = TopicPartition { topic: TOPIC, partition: 0 };
    log.append(partition, record("known")).await.expect("who knows the password is heard");
    assert_eq!(log.end(partition).await.expect("an end"), 1);
    log.close().await;

    let mut file = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file, format!("{password}\n").as_bytes()).expect("written");
    let security = &mut cluster.config.security;
    (security.password, security.password_file) = (Secret::default(), file.path().to_owned());
    cluster.open().await.close().await;

    let wrong = "let me in";
    let security = &mut cluster.config.security;
    (security.password, security.password_file) = (Secret::new(wrong), Default::default());
    let topics = [TopicSpec { topic: TOPIC, partitions: 1, generation: 1 }];
    let nobody = Config { security: Security::default(), ..cluster.config.clone() };
    for config in [cluster.config.clone(), nobody] {
        let Err(refused) = KafkaLog::open(&config, &topics).await else { panic!("somebody else is heard") };
        assert!(matches!(refused, Error::Unavailable(_)) && !refused.to_string().contains(wrong), "{refused}");
        let created = admin::create(&config, &topics).await.expect_err("somebody else creates topics");
        assert!(!created.to_string().contains(wrong) && !format!("{config:?}").contains(wrong), "{created}");
    }
}
