from deploy.documentation import write_pages

write_pages()
