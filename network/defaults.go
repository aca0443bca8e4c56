package network

import "strings"

// defaultDomains is what a machine that writes, builds and ships software
// reaches for: sources, packages, images, archives and models. A wildcard does
// not stand for the name itself, so most are there twice. Places where anybody
// can receive data, such as whole clouds, are left out unless tools need them.
const defaultDomains = `
	github.com *.github.com *.githubusercontent.com *.githubassets.com ghcr.io *.ghcr.io
	github-cloud.s3.amazonaws.com
	gitlab.com *.gitlab.com bitbucket.org *.bitbucket.org codeberg.org

	npmjs.org *.npmjs.org npmjs.com *.npmjs.com yarnpkg.com *.yarnpkg.com nodejs.org *.nodejs.org bun.sh *.bun.sh
	pnpm.io *.pnpm.io deb.nodesource.com rpm.nodesource.com cdn.playwright.dev binaries.prisma.sh
	deno.land *.deno.land jsr.io *.jsr.io esm.sh unpkg.com cdn.jsdelivr.net

	pypi.org *.pypi.org pythonhosted.org *.pythonhosted.org python.org *.python.org astral.sh *.astral.sh
	bootstrap.pypa.io install.python-poetry.org download.pytorch.org
	anaconda.com *.anaconda.com anaconda.org *.anaconda.org

	proxy.golang.org sum.golang.org index.golang.org golang.org *.golang.org go.dev *.go.dev storage.googleapis.com dl.google.com
	crates.io *.crates.io rust-lang.org *.rust-lang.org rustup.rs *.rustup.rs
	rubygems.org *.rubygems.org ruby-lang.org *.ruby-lang.org
	packagist.org *.packagist.org getcomposer.org
	maven.org *.maven.org repo.maven.apache.org *.gradle.org nuget.org *.nuget.org
	hex.pm *.hex.pm elixir-lang.org *.elixir-lang.org erlang.org *.erlang.org
	cpan.org *.cpan.org metacpan.org *.metacpan.org cran.r-project.org julialang.org *.julialang.org
	hackage.haskell.org pub.dev *.pub.dev sdkman.io *.sdkman.io adoptium.net *.adoptium.net

	docker.io *.docker.io docker.com *.docker.com quay.io *.quay.io gcr.io *.gcr.io *.pkg.dev
	docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com
	registry.k8s.io *.registry.k8s.io mcr.microsoft.com *.mcr.microsoft.com public.ecr.aws d5l0dvt14r5h8.cloudfront.net

	debian.org *.debian.org ubuntu.com *.ubuntu.com *.launchpad.net *.launchpadcontent.net
	alpinelinux.org *.alpinelinux.org fedoraproject.org *.fedoraproject.org archlinux.org *.archlinux.org
	nixos.org *.nixos.org brew.sh *.brew.sh hashicorp.com *.hashicorp.com terraform.io *.terraform.io
	packages.microsoft.com apt.llvm.org apt.postgresql.org

	anthropic.com *.anthropic.com claude.ai *.claude.ai claude.com *.claude.com
	openai.com *.openai.com chatgpt.com *.chatgpt.com *.oaistatic.com *.oaiusercontent.com
	generativelanguage.googleapis.com aiplatform.googleapis.com us-central1-aiplatform.googleapis.com
	oauth2.googleapis.com accounts.google.com cloudcode-pa.googleapis.com
	bedrock-runtime.us-east-1.amazonaws.com bedrock-runtime.us-west-2.amazonaws.com
	bedrock-runtime.eu-west-1.amazonaws.com bedrock-runtime.eu-central-1.amazonaws.com
	*.openai.azure.com *.githubcopilot.com cursor.com *.cursor.com cursor.sh *.cursor.sh
	mistral.ai *.mistral.ai cohere.com *.cohere.com *.cohere.ai groq.com *.groq.com x.ai *.x.ai
	deepseek.com *.deepseek.com together.xyz *.together.xyz together.ai *.together.ai fireworks.ai *.fireworks.ai
	openrouter.ai *.openrouter.ai perplexity.ai *.perplexity.ai replicate.com *.replicate.com
	huggingface.co *.huggingface.co hf.co *.hf.co
	models.dev
`

// Defaults is the bundle of rules that is called defaults: it allows what
// software is usually written and built with. It grows with versions of Atoll.
func Defaults() []NameRule {
	var rules []NameRule
	for _, domain := range strings.Fields(defaultDomains) {
		rules = append(rules, NameRule{domain, AllowName})
	}
	return rules
}

// WithDefaults adds the bundle to rules, without what they say something about
// themselves.
func WithDefaults(rules []NameRule) []NameRule {
	said := make(map[string]bool)
	for _, rule := range rules {
		if domain, err := ParseDomain(rule.Domain); err == nil {
			said[domain] = true
		}
	}
	all := append([]NameRule(nil), rules...)
	for _, rule := range Defaults() {
		if !said[rule.Domain] {
			all = append(all, rule)
		}
	}
	return all
}
