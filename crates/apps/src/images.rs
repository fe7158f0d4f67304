//! Which image each stand-in replaces.
//!
//! - Reads: `image`, `command` and `args` of a container.
//! - Rule: `command` replaces the image's entry point and `args` its arguments, as Kubernetes defines.
//! - Limits: tag and digest are ignored, except where the tag or name carries a version (`helloworld-v2`).
//! - Not here: refusing unknown images (`local`), the programs themselves (one file each).

/// One known image.
pub struct Image {
    /// Repository without registry, tag or digest.
    pub repository: &'static str,
    /// Program that stands in for it.
    pub program: &'static str,
    /// Paths by which a container's `command` may call the image's program.
    pub commands: &'static [&'static str],
    /// Arguments of the image when the container gives none.
    pub default_args: &'static [&'static str],
    /// Whether arguments that do not begin with `-` are a command of their own (an entry point script that runs `exec "$@"`).
    pub exec_entrypoint: bool,
}

/// All images that need no registry.
pub const IMAGES: &[Image] = &[
    plain("hashicorp/http-echo", "http-echo", &["http-echo"], &[]),
    plain("mendhak/http-https-echo", "httpbin", &[], &["-port=8080"]),
    Image { exec_entrypoint: true, ..plain("curlimages/curl", "curl", &["curl"], &[]) },
    Image { exec_entrypoint: true, ..plain("curl/curl", "curl", &["curl"], &[]) },
    plain("kennethreitz/httpbin", "httpbin", &["gunicorn"], &["-port=80"]),
    plain("kong/httpbin", "httpbin", &["gunicorn"], &["-port=80"]),
    plain("mccutchen/go-httpbin", "httpbin", &["go-httpbin"], &["-port=8080"]),
    plain("nicholasjackson/fake-service", "fake-service", &["fake-service"], &[]),
    plain("fortio/fortio", "fortio", &["fortio"], &["server"]),
    plain("istio/fortio", "fortio", &["fortio"], &["server"]),
    plain("nginx", "nginx", &["nginx"], &[]),
    plain("nginxinc/nginx-unprivileged", "nginx", &["nginx"], &["-port=8080"]),
    plain("istio/examples-helloworld-v1", "helloworld", &[], &["-version=v1"]),
    plain("istio/examples-helloworld-v2", "helloworld", &[], &["-version=v2"]),
    plain("istio/tcp-echo-server", "tcp-echo", &["tcp-echo"], &["9000,9001,9002", "hello"]),
    plain("governmentpaas/curl-ssl", "curl", &["curl"], &[]),
];

const fn plain(
    repository: &'static str,
    program: &'static str,
    commands: &'static [&'static str],
    default_args: &'static [&'static str],
) -> Image {
    Image { repository, program, commands, default_args, exec_entrypoint: false }
}

/// The arguments of `lateen app` that stand in for a container of `image`, or `None` where there is no stand-in.
///
/// With a `command` that is not the image's own program the answer is `None`: the caller runs it as a program of the machine
/// (`sleep`, `/bin/sh -c …`).
pub fn lookup(image: &str, command: &[String], args: &[String]) -> Option<Vec<String>> {
    let repository = repository_of(image);
    let known = IMAGES.iter().find(|known| known.repository == repository)?;
    if let Some((program, leading)) = command.split_first() {
        return by_command(known, program, leading, args);
    }
    if known.exec_entrypoint
        && let Some((first, rest)) = args.split_first()
        && !first.starts_with('-')
    {
        return by_command(known, first, rest, &[]);
    }
    let given: Vec<String> = if args.is_empty() { known.default_args.iter().map(|arg| (*arg).to_owned()).collect() } else { args.to_vec() };
    Some(std::iter::once(known.program.to_owned()).chain(given).collect())
}

fn by_command(known: &Image, program: &str, leading: &[String], args: &[String]) -> Option<Vec<String>> {
    let base = program.rsplit('/').next().unwrap_or(program);
    let own = known.commands.contains(&base) || base == known.program;
    let name = match base {
        "sleep" => "sleep",
        _ if own => known.program,
        "sh" | "bash" => return None,
        _ => crate::program(base)?.name,
    };
    // The web servers behind `command: [gunicorn, -b, 0.0.0.0:8080, …]` take only the port from it.
    let mut argv = vec![name.to_owned()];
    argv.extend(leading.iter().chain(args).cloned());
    Some(argv)
}

/// The repository of an image reference: registry, tag, digest and `library/` taken off.
fn repository_of(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    let (head, last) = image.rsplit_once('/').map_or((None, image), |(head, last)| (Some(head), last));
    let last_bare = last.split(':').next().unwrap_or(last);
    let bare = match head {
        Some(head) => image.get(..head.len() + 1 + last_bare.len()).unwrap_or(image),
        None => last_bare,
    };
    let without_registry = match bare.split_once('/') {
        Some((first, rest)) if first.contains('.') || first.contains(':') || first == "localhost" => rest,
        _ => bare,
    };
    without_registry.strip_prefix("library/").unwrap_or(without_registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn tag_digest_and_registry_do_not_matter() {
        for image in ["nginx", "nginx:1.27", "docker.io/library/nginx:1", "localhost:5000/nginx@sha256:00"] {
            assert_eq!(repository_of(image), "nginx", "{image}");
        }
        assert_eq!(repository_of("docker.io/mccutchen/go-httpbin:v2"), "mccutchen/go-httpbin");
    }

    #[test]
    fn arguments_follow_the_entry_point() {
        assert_eq!(lookup("hashicorp/http-echo", &[], &words("-text=hi")), Some(words("http-echo -text=hi")));
        assert_eq!(lookup("kong/httpbin", &[], &[]), Some(words("httpbin -port=80")));
    }

    #[test]
    fn command_replaces_the_entry_point() {
        assert_eq!(lookup("curlimages/curl", &words("/bin/sleep infinity"), &[]), Some(words("sleep infinity")));
        assert_eq!(lookup("curlimages/curl", &words("sh -c true"), &[]), None);
        assert_eq!(lookup("fortio/fortio", &words("/usr/bin/fortio"), &words("server")), Some(words("fortio server")));
    }

    #[test]
    fn curl_image_runs_other_commands_from_args() {
        assert_eq!(lookup("curlimages/curl", &[], &words("sleep 60")), Some(words("sleep 60")));
        assert_eq!(lookup("curlimages/curl", &[], &words("-s http://x")), Some(words("curl -s http://x")));
    }

    #[test]
    fn unknown_image_has_no_stand_in() {
        assert_eq!(lookup("example.com/shop:1", &[], &[]), None);
    }
}
