//! All texts of the pages, in each language.
//!
//! One line a text, with both languages in it: a text that is missing in one does not compile. What the engine itself says, such as the words of an error, is not
//! here: it is shown as the output of a program. `{}` stands for what is filled in.

/// A language of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Chinese,
}

impl Language {
    /// Its tag, as HTML and HTTP write it.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh",
        }
    }

    /// What its readers call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "中文",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::English => Self::Chinese,
            Self::Chinese => Self::English,
        }
    }

    pub(super) fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }

    /// The language of a tag, with or without a region.
    pub(super) fn of_tag(tag: &str) -> Option<Self> {
        match tag.split('-').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "zh" => Some(Self::Chinese),
            _ => None,
        }
    }

    /// The one that an `Accept-Language` header likes best; English if it names none that is here.
    pub(super) fn accepted(header: &str) -> Self {
        let weighed = header.split(',').filter_map(|part| {
            let (tag, weight) = part.split_once(";q=").unwrap_or((part, "1"));
            Some((Self::of_tag(tag.trim())?, weight.trim().parse::<f32>().ok()?))
        });
        // Of equals the first one.
        weighed.reduce(|best, next| if next.1 > best.1 { next } else { best }).map_or(Self::English, |(language, _)| language)
    }
}

impl Texts {
    /// A text with its places filled in, in their order.
    pub(super) fn fill(&self, text: &str, values: &[&str]) -> String {
        let mut pieces = text.split("{}");
        let mut filled = pieces.next().unwrap_or_default().to_owned();
        for (piece, value) in pieces.zip(values.iter().chain(std::iter::repeat(&""))) {
            filled += value;
            filled += piece;
        }
        filled
    }
}

macro_rules! texts {
    ($($name:ident: $english:literal / $chinese:literal,)+) => {
        /// The texts of one language.
        #[derive(Debug)]
        pub(super) struct Texts { $(pub(super) $name: &'static str,)+ }

        pub(super) const ENGLISH: Texts = Texts { $($name: $english,)+ };
        pub(super) const CHINESE: Texts = Texts { $($name: $chinese,)+ };

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $english, $chinese),)+];
    };
}

texts! {
    // The frame.
    skip: "Skip to the content" / "跳到正文",
    navigation: "Main navigation" / "主导航",
    rule_navigation: "Pages of this rule" / "本规则的页面",
    log_in: "Log in" / "登录",
    log_out: "Log out" / "退出",
    token: "Token" / "令牌",
    token_hint: "The text of the file token in the service's state directory." / "服务状态目录中令牌文件的内容。",
    wrong_token: "That is not the token." / "令牌不正确。",
    too_many_attempts: "Too many wrong tokens from this address. Wait a minute." / "此地址的错误令牌过多，请一分钟后再试。",
    refused: "This cannot be done" / "无法完成",
    not_found: "Not found" / "未找到",
    next_step: "Next step:" / "下一步：",
    to_rules: "To the rules" / "返回规则列表",
    times_are_utc: "Times are UTC." / "时间均为 UTC。",
    none_yet: "none yet" / "暂无",
    cancel: "Cancel" / "取消",
    apply: "Apply" / "应用",
    older: "Older" / "更早",
    newest: "Newest" / "最新",
    page_before: "Page before" / "上一页",
    part_of_all: "{} to {} of {}" / "第 {} 至 {} 条，共 {} 条",
    next_page: "Next page" / "下一页",
    elsewhere: "The same by command line and API" / "用命令行和 API 完成同样的操作",
    as_command: "Command line" / "命令行",
    as_call: "API" / "API",
    as_toml: "As TOML" / "TOML 形式",
    error_codes: "Error codes" / "错误代码",
    error_codes_hint: "What each code means, as the program's own handbook has it." / "各代码的含义，摘自程序自带的英文手册。",
    // Units.
    seconds: "s" / "秒",
    minutes: "min" / "分钟",
    hours: "h" / "小时",
    days: "d" / "天",
    lag_of: "{} records, {}" / "{} 条，{}",
    // Rules.
    rules: "Rules" / "规则",
    rule: "Rule" / "规则",
    rules_caption: "All rules and what they are doing" / "所有规则及其当前状态",
    add_rule: "Add rule" / "添加规则",
    no_rules: "There is no rule yet. Add one: four screens, about a minute." / "还没有规则。添加一条：四个页面，大约一分钟。",
    filter: "Name or topic contains" / "名称或主题包含",
    nothing_matches: "Nothing matches." / "没有匹配项。",
    name: "Name" / "名称",
    state: "State" / "状态",
    reads: "Reads" / "读取",
    writes: "Writes to" / "写入",
    window: "Window" / "时间窗口",
    lag: "Lag" / "积压",
    last_window: "Last window" / "最近窗口",
    state_running: "running" / "运行中",
    state_waiting: "waiting" / "等待中",
    state_degraded: "degraded" / "降级",
    state_paused: "paused" / "已暂停",
    state_failed: "failed" / "失败",
    state_source_missing: "source missing" / "主题不存在",
    origin_service: "this service" / "本服务",
    origin_file: "a file" / "文件",
    origin_orphan: "a file that is gone" / "已删除的文件",
    done_created: "The rule is created and starts." / "规则已创建，正在启动。",
    done_edited: "The new version is kept; it writes from the next window on." / "新版本已保存，从下一个窗口起生效。",
    done_paused: "The rule is paused; its windows are closed." / "规则已暂停，窗口已关闭。",
    done_resumed: "The rule starts." / "规则正在启动。",
    done_sealed: "The open windows are closed; new ones open behind them." / "打开的窗口已关闭，新窗口随后打开。",
    done_verifying: "The verification has begun." / "校验已开始。",
    done_verification_cancelled: "The verification was cancelled." / "校验已取消。",
    done_rolled_back: "The earlier version is the current one again, as a new version." / "已将早期版本恢复为新的当前版本。",
    done_deleted: "The rule is forgotten; its objects stay." / "规则已删除，对象保留。",
    done_deleted_in_part: "The rule is forgotten; its objects stay. Something else could not be given up: the audit says what and why." / "规则已删除，对象保留。另有部分内容未能释放，详见审计记录。",
    done_copied: "A copy lies in the state directory." / "副本已存入状态目录。",
    // One rule.
    overview: "Overview" / "概览",
    log: "Log" / "日志",
    files: "Files" / "文件",
    versions: "Versions" / "版本",
    explain: "Explain" / "说明",
    edit: "Edit" / "编辑",
    clone: "Clone" / "克隆",
    delete: "Delete" / "删除",
    why: "Why" / "原因",
    at_a_glance: "At a glance" / "一览",
    since: "Since" / "开始于",
    version: "Version" / "版本",
    defined_in: "Defined in" / "定义于",
    source: "Kafka connection" / "Kafka 连接",
    actions: "Actions" / "操作",
    pause: "Pause" / "暂停",
    resume: "Resume" / "恢复",
    seal: "Close the windows now" / "立即关闭窗口",
    verify: "Verify" / "校验",
    verify_cancel: "Cancel the verification" / "取消校验",
    verify_compare: "compare every record with Kafka" / "与 Kafka 逐条比较",
    download_toml: "Download as TOML" / "下载 TOML",
    answers: "Answer what stopped lanes ask" / "答复已停止分区的询问",
    answers_hint: "The reason above says what is asked. An answer holds once." / "上面的原因说明了询问内容。每个答复只生效一次。",
    resume_with_answers: "Resume with these answers" / "带答复恢复",
    accept_foreign_commit: "Somebody else has committed the group's offset: go on from the anchor" / "消费组位移被他人提交：从锚点继续",
    accept_topic_recreated: "The topic was deleted and created again: begin the new one" / "主题被删除后重建：从新主题开始",
    accept_destination: "The rule writes elsewhere now: go on there" / "写入位置已变：在新位置继续",
    accept_truncation: "The log was truncated: list what is lost and go on" / "日志被截断：列出丢失部分并继续",
    verification: "Verification" / "校验",
    verification_queued: "queued" / "排队中",
    verification_running: "running" / "进行中",
    verification_sound: "sound" / "完好",
    verification_damaged: "damaged" / "有损坏",
    verification_unfinished: "unfinished" / "未完成",
    verification_counts: "{} objects, {} records, {} compared, {} gaps, {} damages" / "{} 个对象，{} 条记录，已比较 {} 条，{} 处缺口，{} 处损坏",
    began: "Began" / "开始于",
    ended: "ended" / "结束于",
    charts: "Throughput and lag, last half hour" / "最近半小时的吞吐与积压",
    charts_need_script: "Charts need scripts. The same figures are at the API and in the metrics." / "图表需要启用脚本。相同数据可从 API 和指标获得。",
    no_points: "No points yet: one comes every five seconds while the rule runs." / "暂无数据：规则运行时每五秒一个点。",
    records_a_second: "records per second" / "每秒记录数",
    bytes_a_second: "bytes per second" / "每秒字节数",
    lag_records: "lag, records" / "积压记录数",
    lag_seconds: "lag, seconds" / "积压秒数",
    partitions: "Partitions" / "分区",
    partitions_caption: "Where each partition stands" / "各分区的位置",
    no_partitions: "Partitions are known while the rule runs." / "规则运行时才有分区信息。",
    topic: "Topic" / "主题",
    topics: "Topics" / "主题",
    partition: "Partition" / "分区",
    position: "Next offset" / "下一位移",
    log_end: "Log end" / "日志末端",
    fine: "runs" / "正常",
    windows: "Windows" / "窗口",
    no_windows: "No window was stored yet." / "尚未存储任何窗口。",
    timeline: "Timeline of the last windows by partition" / "各分区最近窗口的时间线",
    window_title: "[{}, {}): {} records" / "[{}, {})：{} 条记录",
    gap_title: "[{}, {}) is missing" / "[{}, {}) 缺失",
    key_window: "window" / "窗口",
    key_late: "window with late records" / "含迟到记录的窗口",
    key_gap: "gap" / "缺口",
    windows_caption: "The last windows, newest first" / "最近的窗口，最新在前",
    stored_at: "Stored" / "存储时间",
    offsets: "Offsets" / "位移",
    offset: "Offset" / "位移",
    records: "Records" / "记录数",
    size: "Size" / "大小",
    closed_by: "Closed by" / "关闭原因",
    object: "Object" / "对象",
    closed_next_slot: "the next slot's record" / "下一时段的记录",
    closed_clock: "the clock" / "时钟",
    closed_age: "age" / "打开过久",
    closed_size: "size" / "大小上限",
    closed_pressure: "memory" / "内存压力",
    closed_recovery: "recovery" / "恢复",
    closed_until_end: "the end asked for" / "到达指定末端",
    closed_stop: "a stop" / "停止",
    closed_out_of_range: "a missing range" / "位移缺失",
    gaps: "Gaps" / "缺口",
    no_gaps: "No gap: every record that was read is stored." / "没有缺口：读取的记录都已存储。",
    gaps_caption: "Offsets that Kafka did not have any more" / "Kafka 已不再保留的位移",
    found_at: "Found" / "发现时间",
    cause: "Cause" / "原因",
    cause_retention: "retention" / "保留期已过",
    cause_truncation: "truncation" / "日志截断",
    cause_corrupt_batch: "corrupt batch" / "批次损坏",
    cause_topic_recreated: "topic created again" / "主题重建",
    cause_operator_skip: "skipped by an operator" / "操作员跳过",
    // Versions.
    current: "current" / "当前",
    first_version: "The first version." / "第一个版本。",
    roll_back: "Make this the current one again" / "恢复为当前版本",
    differences: "What changes, by key" / "按键列出的变更",
    no_differences: "Nothing changes." / "没有变更。",
    key: "Key" / "键",
    value: "Value" / "值",
    before: "Before" / "之前",
    after: "After" / "之后",
    not_given: "not given" / "未设置",
    // Explain.
    group: "Consumer group" / "消费组",
    files_an_hour: "Files an hour at most" / "每小时最多文件数",
    topics_read_now: "Topics that are read now" / "当前读取的主题",
    example_key: "Example key" / "对象键示例",
    in_effect: "In effect, with defaults, secrets masked" / "生效配置（含默认值，密钥已隐藏）",
    // Log.
    level: "Level" / "级别",
    level_all: "all" / "全部",
    level_info: "info" / "信息",
    level_warn: "warning" / "警告",
    level_warn_up: "warnings and errors" / "警告和错误",
    level_error: "error" / "错误",
    contains: "Text contains" / "文本包含",
    refresh: "Refresh" / "刷新",
    log_caption: "Lines of the log, oldest first" / "日志行，最早在前",
    tail_live: "live" / "实时",
    tail_lost: "connection lost" / "连接中断",
    time: "Time" / "时间",
    code: "Code" / "代码",
    text: "Text" / "内容",
    no_lines: "No lines." / "没有日志行。",
    // Delete and clone.
    what_goes: "What goes" / "将删除",
    goes_rule: "The rule and its versions." / "规则及其各版本。",
    goes_group: "The consumer group in Kafka, once it has no member; its last offsets are kept in the audit:" / "Kafka 中的消费组（成员全部退出后删除，最后的位点保留在审计记录中）：",
    goes_owner: "The claim on the topics' directories: another rule may write there." / "对主题目录的占用：其他规则可以写入这些目录。",
    goes_unreachable: "What cannot be reached now is left behind, and named in the audit." / "当前无法访问的部分会留下，并在审计记录中列明。",
    goes_history: "Its windows, gaps and log in this service." / "本服务中它的窗口、缺口和日志记录。",
    what_stays: "What stays" / "将保留",
    stays_objects: "All objects, at" / "所有对象，位于",
    stays_audit: "The audit." / "审计记录。",
    pause_instead: "To stop and keep everything, pause the rule instead." / "若只想停止并保留一切，请改用暂停。",
    type_the_name: "Type the name of the rule" / "请输入规则名称",
    name_differs: "That is not the name of this rule." / "与规则名称不符。",
    delete_rule: "Delete the rule" / "删除规则",
    clone_hint: "A new rule with the same settings and a consumer group of its own." / "以相同设置和独立的消费组新建一条规则。",
    new_name: "Name of the new rule" / "新规则名称",
    clone_prefix_hint: "Another directory: two rules never write a topic into the same one." / "请用不同目录：两条规则不能把同一主题写入同一目录。",
    // Add and edit.
    steps: "Steps" / "步骤",
    step_basics: "1 Basics" / "1 基本信息",
    step_source: "2 Source" / "2 来源",
    step_delivery: "3 Delivery" / "3 投递",
    step_review: "4 Review" / "4 确认",
    next: "Next" / "下一步",
    back: "Back" / "上一步",
    create_rule: "Create the rule" / "创建规则",
    create: "Create" / "创建",
    save: "Save the new version" / "保存新版本",
    settings: "Settings" / "设置",
    review_changes: "Review the changes" / "查看变更",
    edit_takes_effect: "The new version writes from the next window on; open windows finish under the old one." / "新版本从下一个窗口起生效；已打开的窗口按旧版本完成。",
    read_only: "This rule comes from a file and is changed there. It can be paused here." / "此规则来自文件，请在文件中修改；此处只能暂停。",
    edit_toml: "Edit everything as TOML" / "以 TOML 编辑全部设置",
    edit_toml_hint: "All keys of the config file's rule section." / "可使用配置文件规则部分的全部键。",
    all_settings: "All settings" / "全部设置",
    name_hint: "Lower-case letters, digits, dots, dashes and underscores; it cannot be changed later." / "小写字母、数字、点、短横线和下划线；之后不能修改。",
    store: "Store" / "存储",
    store_hint: "The bucket or directory that objects go to." / "对象写入的存储桶或目录。",
    choose_store: "Choose a store; create one on the page Stores if there is none." / "请选择存储；若没有，请先在存储页面创建。",
    every_hint: "1s to 24h, such as 5m. Longer makes fewer, larger files; shorter makes data available sooner." / "1s 到 24h，例如 5m。越长文件越少越大，越短数据越快可用。",
    window_by: "Windows are closed by" / "窗口关闭依据",
    by_record_time: "the records' timestamps" / "记录时间戳",
    by_arrival: "the clock" / "到达时间",
    format: "Format" / "格式",
    format_hint: "Parquet keeps keys, headers and timestamps; raw keeps values alone." / "Parquet 保留键、消息头和时间戳；原始格式只保留值。",
    format_parquet: "Parquet" / "Parquet",
    format_raw: "raw values" / "原始值",
    framing: "Framing of raw values" / "原始值的分隔",
    framing_hint: "For the raw format alone." / "仅用于原始格式。",
    framing_newline: "a newline after each" / "每条后换行",
    framing_len32: "its length before each" / "每条前写长度",
    framing_none: "none" / "不分隔",
    codec: "Compression" / "压缩",
    codec_none: "none" / "不压缩",
    max_bytes: "Close a window early at" / "提前关闭窗口的大小",
    max_bytes_hint: "Uncompressed bytes, such as 256MiB; 1GiB if left empty." / "未压缩字节数，例如 256MiB；留空为 1GiB。",
    source_hint: "The cluster that is read." / "读取的集群。",
    choose_source: "Choose a connection; create one on the page Sources if there is none." / "请选择连接；若没有，请先在来源页面创建。",
    topics_hint: "One on each line: names, or regular expressions with a leading ^." / "每行一个：主题名，或以 ^ 开头的正则表达式。",
    choose_topics: "Name at least one topic." / "请至少填写一个主题。",
    start: "Start" / "起始位置",
    start_hint: "earliest, latest, a time such as @2026-11-22T10:00:00Z or @-1h, or an offset." / "earliest、latest、时间（如 @2026-11-22T10:00:00Z 或 @-1h）或位移。",
    layout: "Directories" / "目录布局",
    layout_hive: "by date and hour (hive)" / "按日期和小时（hive）",
    layout_tencent: "by instance and time (tencent)" / "按实例和时间（tencent）",
    layout_confluent: "by partition (confluent)" / "按分区（confluent）",
    prefix: "Destination path" / "投递路径",
    prefix_hint: "Below the store's own; empty for the store's root. Ends with a slash." / "位于存储自身路径之下；留空为根目录。以斜杠结尾。",
    path_hint: "Instead of a layout, such as archive/{topic}/{yyyy}/{mm}; may stay empty." / "代替目录布局，例如 archive/{topic}/{yyyy}/{mm}；可留空。",
    path: "Template of the directory" / "目录模板",
    instance: "Instance id" / "实例标识",
    instance_hint: "Needed for directories by instance and time; for nothing else." / "仅按实例和时间的目录布局需要。",
    test_connection: "Test the connection" / "测试连接",
    reached: "Cluster {} answers: {} topics, {} ms." / "集群 {} 已响应：{} 个主题，{} 毫秒。",
    find_topics: "Find topics" / "查找主题",
    search: "Part of the name" / "名称的一部分",
    search_hint: "Or a regular expression with a leading ^. Topics that are ticked are added when you go on." / "或以 ^ 开头的正则表达式。勾选的主题会在继续时加入。",
    find: "Find" / "查找",
    found_caption: "Topics that match, with about how many records they hold" / "匹配的主题及其大致记录数",
    choose: "Choose" / "选择",
    last_hour: "In the last hour" / "最近一小时",
    sample_records: "Sample records" / "示例记录",
    show_sample: "Show some of the last records" / "查看最近的几条记录",
    sample_caption: "Some of the last records of" / "最近的几条记录，主题",
    no_records: "The topic holds no records." / "该主题没有记录。",
    record_key: "Key" / "键",
    record_value: "Value" / "值",
    headers: "Headers" / "消息头",
    values_hidden: "Keys and values are shown only by a service that was started with" / "只有以此参数启动的服务才显示键和值：",
    render_key: "Show an example key" / "查看对象键示例",
    probe_store: "Check permissions" / "检查权限",
    probed_region: "Region:" / "地域：",
    probed_left: "Objects of the probe that could not be removed (rules need no permission to delete):" / "探测写入后未能删除的对象（规则不需要删除权限）：",
    store_probed: "What the store permits:" / "存储允许的操作：",
    permissions_caption: "Each action that a rule needs, by trying it" / "规则所需的各项操作，逐一实测",
    permission: "Action" / "操作",
    result: "Result" / "结果",
    allowed: "allowed" / "允许",
    denied: "denied" / "拒绝",
    guard_put: "Create-only guard of PutObject:" / "PutObject 的仅创建保护：",
    guard_complete: "of CompleteMultipartUpload:" / "CompleteMultipartUpload：",
    guard_hint: "A: atomic. B: loses races. C: none. Exactly-once holds with each; B and C cost waiting after a crash." / "A：原子。B：并发时可能失效。C：无。三者都能保证恰好一次；B 和 C 在崩溃后需要等待。",
    estimate: "Estimate" / "估算",
    estimate_files: "At most {} files an hour; the topics have had no records in the last hour." / "每小时最多 {} 个文件；这些主题最近一小时没有记录。",
    estimate_sizes: "At most {} files an hour, about {} each before compression ({} an hour)." / "每小时最多 {} 个文件，压缩前每个约 {}（每小时 {}）。",
    small_files: "Small files are slow to read. A longer window makes fewer and larger ones." / "小文件读取较慢。更长的窗口会产生更少、更大的文件。",
    policy_for: "Least-privilege policy for {}" / "{} 的最小权限策略",
    // Files.
    directories: "Directories" / "目录",
    top: "top" / "顶层",
    files_caption: "Directories and objects at" / "目录和对象，位于",
    no_files: "Nothing here." / "这里没有内容。",
    to_directory: "To its directory" / "返回所在目录",
    address: "Address" / "地址",
    download: "Download" / "下载",
    no_download: "Objects are only given out by a service that was started with" / "只有以此参数启动的服务才提供对象下载：",
    verify_rule: "Verify everything of this rule" / "校验本规则的全部内容",
    proof: "Proof" / "证明",
    proof_hint: "What the object says of itself: lane, offsets, counts, digest." / "对象的自述：来源、位移、计数和摘要。",
    proof_caption: "The proof in the object's footer" / "对象尾部的证明",
    no_proof: "It has no proof that can be read." / "没有可读取的证明。",
    first_records: "First records" / "前几条记录",
    queries: "Query it" / "查询",
    // Sources and stores.
    sources: "Sources" / "来源",
    stores: "Stores" / "存储",
    sources_caption: "Kafka connections that rules may name" / "规则可使用的 Kafka 连接",
    stores_caption: "Stores that rules may name" / "规则可使用的存储",
    new_source: "New connection" / "新建连接",
    new_store: "New store" / "新建存储",
    used_by: "Used by" / "使用者",
    done_connection_created: "It is created; rules may name it." / "已创建，规则可以使用。",
    done_connection_deleted: "It is forgotten." / "已删除。",
    secrets_hint: "None is written over: create another one, and edit the rules." / "已有项不会被覆盖：请新建一个，再编辑相应规则。",
    brokers: "Bootstrap addresses" / "接入地址",
    brokers_hint: "HOST:PORT, several with commas." / "主机:端口，多个用逗号分隔。",
    preset: "Kind of cluster" / "集群类型",
    no_preset: "Kafka" / "Kafka",
    encryption: "Encryption" / "加密",
    no_tls: "none" / "不加密",
    tls_system: "TLS, authorities of the system" / "TLS，使用系统证书",
    tls_ca: "TLS, authorities of a file" / "TLS，使用指定证书",
    ca_file: "File of authorities" / "证书文件",
    ca_hint: "A PEM file on the service's machine." / "服务所在机器上的 PEM 文件。",
    login: "Login" / "登录方式",
    no_login: "none" / "不登录",
    username: "User name" / "用户名",
    password: "Password" / "密码",
    secret_hint: "Or env:NAME, or file:/path on the service's machine." / "也可写 env:变量名，或服务所在机器上的 file:/路径。",
    properties: "Further properties" / "其他属性",
    properties_hint: "Of librdkafka, one name=value on each line." / "librdkafka 属性，每行一个 名称=值。",
    url_hint: "s3://BUCKET/PREFIX/, cos://BUCKET-APPID/PREFIX/?region=R or file:///DIR/." / "s3://存储桶/前缀/、cos://存储桶-APPID/前缀/?region=地域 或 file:///目录/。",
    access_key: "Access key id" / "访问密钥标识",
    access_key_hint: "Of COS the secret id. Left empty: the usual variables, profiles and roles." / "COS 为 SecretId。留空则使用常见的环境变量、配置文件和角色。",
    secret_key: "Secret access key" / "访问密钥",
    session_token: "Session token" / "临时会话令牌",
    // Health.
    health: "Health" / "健康",
    service: "The service" / "服务",
    memory_of_rules: "Memory of running rules" / "运行中规则的内存",
    values_of_records: "Keys and values of records" / "记录的键和值",
    values_are_shown: "shown" / "显示",
    values_are_hidden: "hidden" / "隐藏",
    copy_state: "Copy the state" / "备份状态",
    copy_state_hint: "Rules, versions, history and audit, as one file in the state directory." / "规则、版本、历史和审计，存为状态目录中的一个文件。",
    audit: "Audit" / "审计",
    audit_caption: "Who changed what, newest first" / "谁改了什么，最新在前",
    who: "Who" / "操作者",
    action: "Action" / "操作",
    detail: "Detail" / "详情",
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Latin words that Chinese texts may have: names, and what is typed as it stands.
    pub(in super::super) const NAMES: &[&str] = &[
        "API",
        "TOML",
        "UTC",
        "Kafka",
        "Parquet",
        "hive",
        "tencent",
        "confluent",
        "earliest",
        "latest",
        "env",
        "file",
        "PEM",
        "TLS",
        "COS",
        "SecretId",
        "APPID",
        "PutObject",
        "CompleteMultipartUpload",
        "librdkafka",
        "archive",
        "topic",
        "yyyy",
        "mm",
        "region",
        "cos",
        "s",
        "MiB",
        "GiB",
        "h",
        "m",
        "T",
        "Z",
        "A",
        "B",
        "C",
    ];

    #[test]
    fn every_text_is_in_both_languages() {
        for (name, english, chinese) in ALL {
            assert!(!english.is_empty() && !chinese.is_empty(), "{name}");
            assert_eq!(english.matches("{}").count(), chinese.matches("{}").count(), "{name}");
            let words = chinese.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
            let foreign: Vec<&str> = words.filter(|word| !NAMES.contains(word)).collect();
            assert!(foreign.is_empty(), "{name}: {foreign:?} in {chinese}");
            assert!(!english.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), "{name}: {english}");
        }
    }

    #[test]
    fn places_are_filled_in_their_order() {
        assert_eq!(ENGLISH.fill("{} of {}{}", &["1", "{}", "x"]), "1 of {}x");
        assert_eq!(ENGLISH.fill("{}|{}", &["1"]), "1|");
        assert_eq!(ENGLISH.fill("none", &[]), "none");
    }
}
