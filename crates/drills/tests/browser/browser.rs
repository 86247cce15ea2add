//! One Chromium, with a driver of its own, and what a test does with it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use drills::wait;
use serde_json::{Value, json};
use thirtyfour::{By, ChromiumLikeCapabilities, DesiredCapabilities, WebDriver};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// Two in a row without a port are rare enough; more are a driver that does not work here.
const DRIVER_STARTS: u32 = 5;

/// A browser. Its driver, and with that the browser, ends when this is dropped.
pub(crate) struct Browser {
    pub(crate) driver: WebDriver,
    process: Driver,
    base: String,
}

struct Driver(Child);

impl Driver {
    /// One that listens, and where.
    ///
    /// It asks the system for a free port of IPv6 and then takes the same of IPv4; where that one is in use, as by any
    /// connection of another test, it gives up. So it is started anew some times.
    fn start() -> (Self, u16) {
        let mut said = String::new();
        for _ in 0..DRIVER_STARTS {
            let mut child = Command::new("chromedriver")
                .arg("--port=0")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("chromedriver is missing: install Debian's chromium and chromium-driver");
            let output = BufReader::new(child.stdout.take().unwrap());
            let driver = Driver(child);
            for line in output.lines().map_while(Result::ok) {
                let port = line.split("started successfully on port ").nth(1);
                if let Some(port) = port.and_then(|port| port.trim_end_matches('.').parse().ok()) {
                    return (driver, port);
                }
                said.push_str(&line);
                said.push('\n');
            }
        }
        panic!("chromedriver does not start:\n{said}");
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Browser {
    /// A browser for the pages of the gateway at `base`.
    pub(crate) async fn open(base: &str) -> Self {
        let (process, port) = Driver::start();
        let mut capabilities = DesiredCapabilities::chrome();
        for flag in
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"]
        {
            capabilities.add_arg(flag).unwrap();
        }
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await.expect("Chromium starts");
        Browser { driver, process, base: base.to_owned() }
    }

    /// Ends the session, so that no Chromium is left behind.
    pub(crate) async fn close(self) {
        self.driver.quit().await.unwrap();
        drop(self.process);
    }

    pub(crate) async fn go(&self, path: &str) {
        self.driver.goto(format!("{}{path}", self.base)).await.unwrap();
    }

    /// Waits until path and query of the page are those: a click may be over before the page it leads to is there.
    pub(crate) async fn arrives_at(&self, place: &str) {
        let mut last = String::new();
        let arrived = wait::until(PATIENCE, async || {
            let url = self.driver.current_url().await.unwrap();
            last = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
            (last == place).then_some(())
        });
        assert!(arrived.await.is_some(), "waited in vain for {place}; the page is {last}");
    }

    /// The text of the page; none while one page makes way for another.
    pub(crate) async fn text(&self) -> String {
        let Ok(body) = self.driver.find(By::Css("body")).await else { return String::new() };
        body.text().await.unwrap_or_default()
    }

    /// Waits until the page shows `text`, without touching it.
    pub(crate) async fn shows(&self, text: &str) {
        let mut last = String::new();
        let found = wait::until(PATIENCE, async || {
            last = self.text().await;
            last.contains(text).then_some(())
        });
        assert!(found.await.is_some(), "waited in vain for {text:?}; the page shows\n{last}");
    }

    /// Presses what has this text: a button, or a link.
    pub(crate) async fn press(&self, text: &str) {
        let path = format!("//main//*[self::button or self::a][normalize-space()='{text}']");
        // The page's script may put another in its place in between: then that one is pressed.
        let pressed = wait::until(PATIENCE, async || {
            let found = self.driver.find(By::XPath(path.as_str())).await.ok()?;
            found.click().await.ok()
        });
        assert!(pressed.await.is_some(), "nothing to press says {text:?}; the page shows\n{}", self.text().await);
    }

    /// Writes into the field of that name, as soon as there is one.
    pub(crate) async fn write(&self, name: &str, text: &str) {
        let path = format!("[name='{name}']:not([type=hidden])");
        let written = wait::until(PATIENCE, async || {
            let field = self.driver.find(By::Css(path.as_str())).await.ok()?;
            field.clear().await.ok()?;
            field.send_keys(text).await.ok()
        });
        assert!(written.await.is_some(), "no field is named {name}; the page shows\n{}", self.text().await);
    }

    /// Chooses a value of a list, as soon as there is one.
    pub(crate) async fn choose(&self, name: &str, value: &str) {
        let path = format!("select[name='{name}'] option[value='{value}']");
        let chosen = wait::until(PATIENCE, async || {
            let option = self.driver.find(By::Css(path.as_str())).await.ok()?;
            option.click().await.ok()
        });
        assert!(chosen.await.is_some(), "no list {name} has {value}; the page shows\n{}", self.text().await);
    }

    /// Waits until an expression in the page has that value, without touching the page.
    pub(crate) async fn becomes(&self, expression: &str, value: Value) {
        let mut last = Value::Null;
        let found = wait::until(PATIENCE, async || {
            last = self.value(expression).await;
            (last == value).then_some(())
        });
        assert!(found.await.is_some(), "waited in vain for {value} of {expression}; it is {last}");
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let result = self.driver.execute(format!("return {expression};"), Vec::new()).await;
        result.unwrap_or_else(|error| panic!("{expression}: {error}")).json().clone()
    }

    pub(crate) async fn tell(&self, command: &str, parameters: Value) {
        self.driver.cdp().send_raw(command, parameters).await.unwrap();
    }

    /// From now on no page runs a script.
    pub(crate) async fn without_scripts(&self) {
        self.tell("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    }

    pub(crate) async fn prefers(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.tell("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// As wide as a phone.
    pub(crate) async fn narrow(&self) {
        let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true });
        self.tell("Emulation.setDeviceMetricsOverride", phone).await;
    }

    /// What axe-core finds that would keep somebody from using the page.
    pub(crate) async fn serious_violations(&self) -> Vec<String> {
        let path = std::env::var("AXE_JS").expect("AXE_JS names axe-core's script");
        let axe = std::fs::read_to_string(path).unwrap();
        // Through the driver, because the page's own policy lets no script in.
        self.driver.execute(axe, Vec::new()).await.unwrap();
        let run = "const done = arguments[arguments.length - 1]; \
            axe.run(document, { resultTypes: ['violations'] }).then((found) => done(found.violations), (e) => done([{ id: String(e), impact: 'critical', nodes: [] }]));";
        let found = self.driver.execute_async(run, Vec::new()).await.unwrap().json().clone();
        let serious = found
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| matches!(one["impact"].as_str(), Some("serious" | "critical")));
        serious.map(|one| format!("{}: {}", one["id"], one["nodes"])).collect()
    }
}
