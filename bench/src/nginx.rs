//! nginx with one static file: what a server of bytes can do on this machine.

use limn_tests::{free_port, new_folder};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// A server that ends with this value.
#[derive(Debug)]
pub struct Nginx {
    process: Child,
    port: u16,
}

/// The longest time until it listens.
const START_TIME: Duration = Duration::from_secs(5);

impl Nginx {
    /// Serves a file of that length as `/file`, by two processes as there are threads in Limn on two processors. `None`
    /// where there is no nginx: in the path, or where `NGINX` says.
    pub async fn start(file_bytes: usize) -> Option<Self> {
        let program = std::env::var("NGINX").unwrap_or_else(|_| "nginx".to_owned());
        let (folder, port) = (new_folder("nginx"), free_port());
        fs::write(folder.join("file"), "x".repeat(file_bytes)).expect("the folder is ours");
        let at = folder.display();
        let configuration = format!(
            "daemon off; user root; worker_processes 2; pid {at}/pid; error_log {at}/errors; worker_rlimit_nofile 20000;
             events {{ worker_connections 8000; }}
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
               client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
               uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi; default_type application/json;
               server {{ listen 127.0.0.1:{port}; root {at}; }} }}"
        );
        let path = folder.join("nginx.conf");
        fs::write(&path, configuration).expect("the folder is ours");
        let mut command = Command::new(&program);
        command.arg("-c").arg(&path).arg("-p").arg(&folder).stderr(Stdio::null());
        let Ok(process) = command.spawn() else {
            println!("  no floor: cannot run `{program}`; `NGINX` tells where it is");
            return None;
        };
        let nginx = Self { process, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(begun.elapsed() < START_TIME, "nginx listens");
            sleep(Duration::from_millis(10)).await;
        }
        Some(nginx)
    }

    /// The port that it listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // In order, so that its workers end too.
        limn_tests::signal(self.process.id(), limn_tests::Signal::SIGTERM);
        let _ = self.process.wait();
    }
}
