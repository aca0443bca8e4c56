package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

// urlAuth reads who may use a URL; default is an older word for sprite.
func urlAuth(flag, value string) (string, error) {
	switch value {
	case "sprite", "public":
		return value, nil
	case "default":
		return "sprite", nil
	}
	return "", usage("%s %q: use sprite (your team) or public (everybody)", flag, value)
}

func newSpriteURL(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "url",
		Short: "Print a sprite's URL, or say who may use it",
		Long: `Print a sprite's URL. It leads to the service that has an HTTP port, else to port
8080, and wakes the sprite.`,
		Example: `  atoll sprite url
  curl -H "Authorization: Bearer $SPRITE_TOKEN" "$(atoll sprite url -s web)"
  atoll sprite url update --auth public`,
		Args: noCommand("atoll sprite url"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			one, err := c.Sprite(cmd.Context(), g.Name())
			if err != nil {
				return fmt.Errorf("find the URL of %s: %w", g.Name(), err)
			}
			return s.printURL(one, asJSON)
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.AddCommand(newSpriteURLUpdate(s))
	return cmd
}

func (s *sprites) printURL(one client.Sprite, asJSON bool) error {
	if asJSON {
		return s.printJSON(map[string]string{"url": one.URL, "auth": one.URLSettings.Auth})
	}
	if _, tty := isTerminal(s.out); tty {
		s.note("auth: %s", first(one.URLSettings.Auth, "sprite"))
	}
	_, err := fmt.Fprintln(s.out, one.URL)
	return err
}

func newSpriteURLUpdate(s *sprites) *cobra.Command {
	var auth string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "update --auth public|sprite",
		Short: "Say who may use a sprite's URL",
		Example: `  atoll sprite url update --auth public
  atoll sprite url update --auth sprite -s web`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if auth == "" {
				return usage("say who: --auth public or --auth sprite")
			}
			who, err := urlAuth("--auth", auth)
			if err != nil {
				return err
			}
			one, err := s.updateSprite(cmd.Context(), client.SpriteUpdate{URLSettings: &client.SpriteURL{Auth: who}})
			if err != nil {
				return err
			}
			return s.printURL(one, asJSON)
		},
	}
	cmd.Flags().StringVar(&auth, "auth", "", "public (everybody) or sprite (your team; also called default)")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (s *sprites) updateSprite(ctx context.Context, u client.SpriteUpdate) (client.Sprite, error) {
	c, g, err := s.chosen(ctx)
	if err != nil {
		return client.Sprite{}, err
	}
	one, err := c.UpdateSprite(ctx, g.Name(), u)
	if err != nil {
		return one, fmt.Errorf("update sprite %s: %w", g.Name(), err)
	}
	return one, nil
}

func newSpriteConfig(s *sprites) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Change a sprite's settings",
		Example: `  atoll sprite config update --url-auth public --label team=blue`,
		Args:    noCommand("atoll sprite config"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSpriteConfigUpdate(s))
	return cmd
}

func newSpriteConfigUpdate(s *sprites) *cobra.Command {
	var auth, access, orgAccess string
	var labels []string
	var clear, asJSON bool
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Change what the flags say, and leave the rest",
		Example: `  atoll sprite config update --url-auth public
  atoll sprite config update --label a --label b
  atoll sprite config update --clear-labels
  atoll sprite config update -s builder --org-access on`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			u := client.SpriteUpdate{Labels: listed(labels), ClearLabels: clear}
			if auth != "" || access != "" {
				u.URLSettings = &client.SpriteURL{PrivateAccess: access}
			}
			if auth != "" {
				var err error
				if u.URLSettings.Auth, err = urlAuth("--url-auth", auth); err != nil {
					return err
				}
			}
			switch orgAccess {
			case "":
			case "on", "off":
				on := orgAccess == "on"
				u.OrgAccess = &on
			default:
				return usage("--org-access %q: use on or off", orgAccess)
			}
			if u.URLSettings == nil && u.Labels == nil && u.OrgAccess == nil && !clear {
				return usage("nothing to change").hinted("\"atoll sprite config update --help\" shows what can be")
			}
			one, err := s.updateSprite(cmd.Context(), u)
			if err != nil {
				return err
			}
			if asJSON {
				return s.printJSON(one)
			}
			s.facts(spriteFacts(one))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&auth, "url-auth", "", "who may use the URL: sprite (your team) or public")
	f.StringVar(&access, "private-access", "", "of your team: admins or org_users")
	f.StringArrayVar(&labels, "label", nil, "the labels it is to have (repeatable)")
	f.BoolVar(&clear, "clear-labels", false, "take all labels away")
	f.StringVar(&orgAccess, "org-access", "", "whether programs in it may use the API as your team: on or off")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newSpritePolicy(s *sprites) *cobra.Command {
	var allow, deny []string
	var defaults, open, asJSON bool
	var file string
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Show or change which names a sprite may connect to",
		Long: `Show or change which names a sprite may connect to. With a flag the whole policy
is replaced, at once, and connections to what is forbidden now end. The most
specific rule wins; what no rule names is denied.`,
		Example: `  atoll sprite policy
  atoll sprite policy --defaults --allow api.example.com --allow '*.example.org'
  atoll sprite policy --allow '*' --deny tracker.example.com
  atoll sprite policy --file rules.json
  atoll sprite policy --open`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, change, err := s.policyOf(allow, deny, defaults, open, file)
			if err != nil {
				return err
			}
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			if change {
				if err := g.SetNetworkPolicy(cmd.Context(), p); err != nil {
					return fmt.Errorf("change the policy of %s: %w", g.Name(), err)
				}
			}
			if p, err = g.NetworkPolicy(cmd.Context()); err != nil {
				return fmt.Errorf("show the policy of %s: %w", g.Name(), err)
			}
			if asJSON {
				return s.printJSON(p)
			}
			s.printPolicy(p)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&allow, "allow", nil, "a name to allow: example.com, *.example.com or * (repeatable)")
	f.StringArrayVar(&deny, "deny", nil, "a name to deny (repeatable)")
	f.BoolVar(&defaults, "defaults", false, "allow what most development needs: package registries, code hosts, model APIs")
	f.BoolVar(&open, "open", false, "take all rules away")
	f.StringVar(&file, "file", "", "take the policy from a JSON file (- is standard input)")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// policyOf is the policy that flags ask for, if they ask for any.
func (s *sprites) policyOf(allow, deny []string, defaults, open bool, file string) (p client.NetworkPolicy, change bool, err error) {
	rules := len(allow)+len(deny) > 0 || defaults
	if rules && open || file != "" && (rules || open) {
		return p, false, usage("use one of --file, --open, and rules")
	}
	if defaults {
		p.Rules = append(p.Rules, client.NetworkRule{Include: "defaults"})
	}
	for _, d := range allow {
		p.Rules = append(p.Rules, client.NetworkRule{Domain: d, Action: "allow"})
	}
	for _, d := range deny {
		p.Rules = append(p.Rules, client.NetworkRule{Domain: d, Action: "deny"})
	}
	if file == "" {
		return p, rules || open, nil
	}
	in := s.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return p, false, err
		}
		defer f.Close()
		in = f
	}
	if err := json.NewDecoder(io.LimitReader(in, 1<<20)).Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return p, false, fmt.Errorf("read %s: %w", file, err)
	}
	return p, true, nil
}

func (s *sprites) printPolicy(p client.NetworkPolicy) {
	if len(p.Rules) == 0 {
		s.note("no rules: it may connect anywhere")
		return
	}
	rows := make([][]string, 0, len(p.Rules))
	for _, r := range p.Rules {
		name, action := r.Domain, r.Action
		if r.Include != "" {
			name, action = "("+r.Include+")", "allow"
		}
		rows = append(rows, []string{action, name})
	}
	s.table([]column{{title: "ACTION", paint: func(a string) style {
		return map[string]style{"allow": green, "deny": red}[strings.TrimSpace(a)]
	}}, {title: "NAME", min: 12}}, rows)
}

func newSpriteUpgrade(s *sprites) *cobra.Command {
	return spriteAct(s, "upgrade", "Move a sprite to the newest runtime", "upgrading", "was upgraded",
		`Move a sprite to the newest runtime. What runs in it starts anew.`, (*client.Client).UpgradeSprite)
}

func newSpriteRestart(s *sprites) *cobra.Command {
	return spriteAct(s, "restart", "End all that runs in a sprite and start it from its disk", "restarting", "was restarted",
		`End all that runs in a sprite and start it from its disk. Its services start with it.`, (*client.Client).RestartSprite)
}

// spriteAct is a command that does one thing to a sprite, which may take a while.
func spriteAct(s *sprites, verb, short, doing, done, long string, act func(*client.Client, context.Context, string) error) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: verb + " [NAME]", Short: short, Long: long,
		Example: "  atoll sprite " + verb + "\n  atoll sprite " + verb + " -s web",
		Args:    atMost("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, name, err := s.named(cmd.Context(), args)
			if err != nil {
				return err
			}
			w := s.begin("%s %s", doing, name)
			defer w.done()
			err = act(c, cmd.Context(), name)
			w.done()
			if err != nil {
				return fmt.Errorf("%s sprite %s: %w", verb, name, err)
			}
			if asJSON {
				return s.printJSON(map[string]string{"name": name})
			}
			s.note("%s %s in %s", name, done, w.took())
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
